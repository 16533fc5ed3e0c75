"""Reads Thrift's compact protocol, in which parquet's headers are written.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any, Protocol

from experiments.errors import DamagedRecordError

# Types of fields and of lists' elements.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY = 1, 2, 3, 7, 8
_INTS, _LISTS, _STRUCT = (4, 5, 6), (9, 10), 12
_MAX_DEPTH = 8
_MAX_BINARY = 256  # Bytes; longer strings are passed over.


class Window(Protocol):
  """A part of a file."""

  def read(self, offset: int, size: int) -> bytes:
    """Raises DamagedRecordError if there are fewer bytes."""


def read_struct(
  window: Window, at: int, depth: int = 0
) -> tuple[dict[int, Any], int]:
  """Returns the fields of a struct by their numbers, and the offset after it.

  Values are numbers, bytes, None for long strings, lists and structs. Raises
  DamagedRecordError for other types, and for data that ends too early.
  """
  if depth > _MAX_DEPTH:
    raise DamagedRecordError(f'too many structs in structs at byte {at}')
  fields: dict[int, Any] = {}
  number = 0
  while header := window.read(at, 1)[0]:
    at += 1
    kind = header & 15
    if header >> 4:
      number += header >> 4
    else:
      number, at = _zigzag(window, at)
    if kind in (_TRUE, _FALSE):
      fields[number] = kind == _TRUE
    else:
      fields[number], at = _value(window, at, kind, depth)
  return fields, at + 1


def _value(window: Window, at: int, kind: int, depth: int) -> tuple[Any, int]:
  if kind in _INTS:
    return _zigzag(window, at)
  if kind == _STRUCT:
    return read_struct(window, at, depth + 1)
  if kind == _BINARY:
    size, at = read_varint(window, at)
    value = window.read(at, size) if size <= _MAX_BINARY else None
    return value, at + size
  if kind in _LISTS and depth <= _MAX_DEPTH:
    return _list(window, at, depth + 1)
  if kind in (_TRUE, _FALSE, _BYTE):  # Bools are bytes in lists.
    return window.read(at, 1)[0], at + 1
  if kind == _DOUBLE:
    return None, at + 8
  raise DamagedRecordError(f'no type {kind} is read, at byte {at}')


def _list(window: Window, at: int, depth: int) -> tuple[list[Any], int]:
  header = window.read(at, 1)[0]
  kind, count, at = header & 15, header >> 4, at + 1
  if count == 15:
    count, at = read_varint(window, at)
  values = []
  for _ in range(count):
    value, at = _value(window, at, kind, depth)
    window.read(at - 1, 1)  # Doubles take no memory: end at the window's end.
    values.append(value)
  return values, at


def read_varint(window: Window, at: int) -> tuple[int, int]:
  """Reads seven bits of each byte, low ones first, up to one below 128.

  Returns the number and the offset after it. Raises DamagedRecordError for more
  than ten bytes, which are 64 bits.
  """
  value = 0
  for i in range(10):
    byte = window.read(at + i, 1)[0]
    value |= (byte & 127) << 7 * i
    if byte < 128:
      return value, at + i + 1
  raise DamagedRecordError(f'no number at byte {at}')


def _zigzag(window: Window, at: int) -> tuple[int, int]:
  number, at = read_varint(window, at)
  return number >> 1 ^ -(number & 1), at
