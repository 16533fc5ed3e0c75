"""Finds where each image lies in a column of a parquet file.

Parquet's readers, pyarrow too, decode a whole page to get one of its values. In
`datasets`' files a page is a row group of 100 images, 11 MB. Here only page
headers and lengths of values are read, and then each image by itself. The
format: https://parquet.apache.org/docs/file-format/

Pages are read that are uncompressed or Snappy's, of plain values or of indices
into a dictionary of such values, as pyarrow writes them by default.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.benchmarks.imagenet import shards
from experiments.benchmarks.imagenet.parquet import snappy, thrift
from experiments.benchmarks.imagenet.parquet.snappy import (
  UnlocatedError,
  Window,
)
from experiments.errors import DamagedRecordError

CODECS = ('SNAPPY', 'UNCOMPRESSED')
# Enums of parquet.thrift.
DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = range(4)
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
# Field numbers of its PageHeader, and of the three headers of kinds of pages.
TYPE, UNCOMPRESSED_SIZE, COMPRESSED_SIZE = 1, 2, 3
HEADERS = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}
NUM_VALUES, ENCODING = 1, 2
V2_ENCODING, V2_LEVELS_SIZE, V2_REPETITION_SIZE, V2_IS_COMPRESSED = 4, 5, 6, 7
_OTHER_PAGES = 8  # At most, beside those that have rows.


class Chunk(NamedTuple):
  """The images of a row group, by the file's footer."""

  shard: int  # Index of the file.
  row_group: int  # Index in the file.
  num_rows: int
  start: int  # Bytes, of the column chunk in the file.
  size: int
  codec: str
  max_level: int  # The definition level of a value that is not null.


class Page(Protocol):
  """The decompressed values of a page."""

  @property
  def size(self) -> int: ...

  def read(self, file: int, offset: int, size: int) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class _Uncompressed:
  size: int
  start: int  # In the file.

  def read(self, file: int, offset: int, size: int) -> bytes:
    return shards.read_at(file, self.start + offset, size)


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
  """Where the images of a row group are."""

  pages: list[Page]
  places: np.ndarray  # [rows, 3] int32: page, offset in it, size; -1 if null

  def read(self, file: int, row: int) -> bytes | None:
    """Reads an image; None if it is null.

    Raises DamagedRecordError if it is damaged.
    """
    page, offset, size = self.places[row].tolist()
    if size > shards.MAX_IMAGE_BYTES:
      raise DamagedRecordError(f'the image has {size} bytes')
    return None if size < 0 else self.pages[page].read(file, offset, size)


def locate(file: int, chunk: Chunk) -> Places:
  """Finds all images of a row group.

  Args:
    file: descriptor of the parquet file.
    chunk: which row group.

  Raises:
    DamagedRecordError: if the pages are damaged.
    UnlocatedError: if they are of other kinds.
  """
  if chunk.codec not in CODECS:
    raise UnlocatedError
  end = chunk.start + chunk.size
  window = Window(file, end)
  pages: list[Page] = []
  dictionary = np.zeros((0, 3), np.int32)
  parts, rows, seen, at = [], 0, 0, chunk.start
  while rows < chunk.num_rows:
    header, at = thrift.read_struct(window, at)
    kind = header.get(TYPE)
    size, packed = (header.get(x) for x in (UNCOMPRESSED_SIZE, COMPRESSED_SIZE))
    facts = header.get(HEADERS.get(kind or 0, 0))
    seen += 1
    if seen > chunk.num_rows + _OTHER_PAGES or not (
      isinstance(size, int)
      and isinstance(packed, int)
      and min(size, packed) >= 0
    ):
      raise DamagedRecordError(f'no page header before byte {at}')
    if kind != INDEX_PAGE:
      if not isinstance(facts, dict):
        raise DamagedRecordError(f'no kind of page before byte {at}')
      is_v2 = kind == DATA_PAGE_V2
      page = _Page(window, chunk, len(pages), facts, is_v2, at, packed, size)
      pages.append(page.values)
      if kind == DICTIONARY_PAGE:
        if facts.get(ENCODING) not in (PLAIN, PLAIN_DICTIONARY):
          raise UnlocatedError
        dictionary = page.plain(0, page.num_values(chunk.num_rows))
      else:
        parts.append(page.rows(dictionary, chunk.num_rows - rows))
        rows += len(parts[-1])
    at += packed
  return Places(pages, np.concatenate(parts) if parts else dictionary)


class _Page:
  """A page while its values are looked for."""

  def __init__(
    self,
    window: Window,
    chunk: Chunk,
    index: int,
    facts: dict[int, Any],
    is_v2: bool,
    start: int,
    packed: int,
    size: int,
  ):
    if start + packed > window.end:
      raise DamagedRecordError(f'the page at byte {start} has no end')
    self._window, self._index, self._facts = window, index, facts
    self._max_level, self._start = chunk.max_level, start
    # In the second version of data pages, levels come first, uncompressed.
    self._is_v2 = is_v2
    self._levels_size = facts.get(V2_LEVELS_SIZE, 0) if is_v2 else 0
    is_compressed = not is_v2 or facts.get(V2_IS_COMPRESSED, True)
    if is_v2 and facts.get(V2_REPETITION_SIZE):
      raise UnlocatedError
    if not 0 <= self._levels_size <= min(packed, size):
      raise DamagedRecordError(f'the page at byte {start} has no levels')
    start, end = start + self._levels_size, start + packed
    size -= self._levels_size
    self.values: Page
    self._peek: Callable[[int, int], bytes]
    if chunk.codec == 'SNAPPY' and is_compressed and size:
      elements = snappy.Elements(window, start, end, size)
      self.values, self._peek = elements.blocks, elements.peek
    else:
      if size != end - start:
        raise DamagedRecordError(f'the page at byte {start} has another size')
      self.values = _Uncompressed(size, start)
      self._peek = self._peek_uncompressed

  def _peek_uncompressed(self, offset: int, size: int) -> bytes:
    if offset + size > self.values.size:
      raise DamagedRecordError(f'the page ends before byte {offset + size}')
    assert isinstance(self.values, _Uncompressed)
    return self._window.read(self.values.start + offset, size)

  def num_values(self, most: int) -> int:
    count = self._facts.get(NUM_VALUES)
    if not isinstance(count, int) or not 0 <= count <= most:
      raise DamagedRecordError(f'the page has {count} values')
    return count

  def plain(self, offset: int, count: int) -> np.ndarray:
    """[count, 3]: places of values that have their lengths before them."""
    places = np.empty((count, 3), np.int32)
    for i in range(count):
      length = int.from_bytes(self._peek(offset, 4), 'little')
      offset += 4
      if length > self.values.size - offset:
        raise DamagedRecordError(f'value {i} of a page has {length} bytes')
      places[i] = self._index, offset, length
      offset += length
    return places

  def rows(self, dictionary: np.ndarray, most: int) -> np.ndarray:
    """[rows, 3]: places of the images of a data page."""
    count, offset = self.num_values(most), 0
    if not count:
      raise DamagedRecordError('the page has no values')
    is_present = np.ones(count, bool)
    if self._max_level:
      if self._is_v2:
        levels = self._window.read(self._start, self._levels_size)
      else:
        offset = 4 + int.from_bytes(self._peek(0, 4), 'little')
        levels = self._peek(4, offset - 4)
      width = self._max_level.bit_length()
      is_present = _hybrid(levels, width, count) == self._max_level
    places = np.full((count, 3), -1, np.int32)
    encoding = self._facts.get(V2_ENCODING if self._is_v2 else ENCODING)
    num_present = int(is_present.sum())
    if encoding == PLAIN:
      places[is_present] = self.plain(offset, num_present)
    elif encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY):
      if num_present:
        width = self._peek(offset, 1)[0]
        rest = self._peek(offset + 1, self.values.size - offset - 1)
        indices = _hybrid(rest, width, num_present)
        if indices.max() >= len(dictionary):
          raise DamagedRecordError('an index is not in the dictionary')
        places[is_present] = dictionary[indices]
    else:
      raise UnlocatedError
    return places


def _hybrid(data: bytes, width: int, count: int) -> np.ndarray:
  """Decodes [count] numbers of `width` bits: runs, and groups of eight."""
  if width > 32:
    raise DamagedRecordError(f'numbers of {width} bits')
  numbers = np.zeros(count, np.int64)
  done = at = 0
  while width and done < count:
    header = shift = 0
    while True:
      if at >= len(data) or shift > 28:
        raise DamagedRecordError('a page has too few numbers')
      header |= (data[at] & 127) << shift
      at, shift = at + 1, shift + 7
      if data[at - 1] < 128:
        break
    if header & 1:
      groups = min(header >> 1, -(-(count - done) // 8))
      part = np.frombuffer(data[at : at + groups * width], np.uint8)
      if len(part) < groups * width:
        raise DamagedRecordError('a page has too few numbers')
      bits = np.unpackbits(part, bitorder='little').reshape(-1, width)
      found = bits @ (1 << np.arange(width, dtype=np.int64))
      at += (header >> 1) * width
    else:
      size = -(-width // 8)
      value = int.from_bytes(data[at : at + size], 'little')
      found = np.full(min(header >> 1, count - done), value)
      at += size
    found = found[: count - done]
    numbers[done : done + len(found)] = found
    done += len(found)
    if not len(found):
      raise DamagedRecordError('a page has a run of no numbers')
  return numbers
