"""Interprets pickles of mappings of arrays, and executes nothing in them.

A pickle is a program for a stack machine, which may import and call anything.
This module interprets the few instructions that mappings of arrays need. It has
nothing that imports, calls or sets attributes: a global is a member of
`_Global`, and what its call would return is built here. Python's own unpickler
is not used, because it allocates what a length in the file claims.

Python's pickletools describes the instructions. Haiku of 2021 and of today
writes its mappings as FlatMapping(dict) or frozendict(dict). NumPy writes an
array as _reconstruct(ndarray, (0,), b'b') and a state or, since protocol 5, as
_frombuffer(bytes, dtype, shape, order).
"""

import enum
import math
import pickle
import struct
from typing import Any

import numpy as np

# An array takes about 35. An instruction of one byte can make an object of 64
# bytes, so this also limits memory.
MAX_INSTRUCTIONS = 1 << 18
MAX_KEY = 500  # Characters. Keys are joined, so long ones would multiply.
MAX_AXES = 8
PROTOCOLS = range(2, 6)
DTYPES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8')


class _Global(enum.Enum):
  """Names that a pickle may use, by their role."""

  MAPPING = 'mapping'
  NDARRAY = 'ndarray'
  DTYPE = 'dtype'
  RECONSTRUCT = 'reconstruct'
  FROMBUFFER = 'frombuffer'
  ENCODE = 'encode'


_GLOBALS = {
  'haiku._src.data_structures FlatMapping': _Global.MAPPING,
  'haiku._src.data_structures FlatMap': _Global.MAPPING,
  'haiku._src.data_structures frozendict': _Global.MAPPING,
  'numpy ndarray': _Global.NDARRAY,
  'numpy dtype': _Global.DTYPE,
  'numpy.core.multiarray _reconstruct': _Global.RECONSTRUCT,
  'numpy._core.multiarray _reconstruct': _Global.RECONSTRUCT,
  'numpy.core.numeric _frombuffer': _Global.FROMBUFFER,
  'numpy._core.numeric _frombuffer': _Global.FROMBUFFER,
  '_codecs encode': _Global.ENCODE,
}
MAX_NAME = 64  # Longer than any of these.

# Instructions by what follows them: a number, or a length and that many bytes.
_CONSTANTS = {
  pickle.NONE: None,
  pickle.NEWTRUE: True,
  pickle.NEWFALSE: False,
  pickle.EMPTY_TUPLE: (),
}
_INTEGERS = {pickle.BININT: '<i', pickle.BININT1: '<B', pickle.BININT2: '<H'}
_GETS = {pickle.BINGET: '<B', pickle.LONG_BINGET: '<I'}
_PUTS = {pickle.BINPUT: '<B', pickle.LONG_BINPUT: '<I'}
_TEXTS = {
  pickle.SHORT_BINUNICODE: '<B',
  pickle.BINUNICODE: '<I',
  pickle.BINUNICODE8: '<Q',
}
_BYTES = {
  pickle.SHORT_BINBYTES: '<B',
  pickle.BINBYTES: '<I',
  pickle.BINBYTES8: '<Q',
  pickle.BYTEARRAY8: '<Q',
}
_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}


class Dtype:
  """A dtype of an array, whose state may only give the order of its bytes."""

  __slots__ = ('value',)

  def __init__(self, arguments: tuple[Any, ...]):
    code = arguments[0] if len(arguments) == 3 else None
    if not (type(code) is str and code in DTYPES):
      raise ValueError(f'a dtype is none of {", ".join(DTYPES)}')
    if arguments != (code, False, True):  # Neither aligned nor shared.
      raise ValueError('a dtype has other arguments than NumPy gives it')
    self.value = np.dtype(code)

  def build(self, state: tuple[Any, ...]) -> None:
    for order in ('<', '>', '|'):
      if state == (3, order, None, None, None, -1, -1, 0):
        self.value = self.value.newbyteorder(order)
        return
    raise ValueError('the state of a dtype is not that of a plain number')


class Array:
  """An array, which gets its value once."""

  __slots__ = ('value',)

  def __init__(self) -> None:
    self.value: np.ndarray | None = None

  def build(self, state: tuple[Any, ...]) -> None:
    """Takes the state of an array: version, shape, dtype, Fortran's order?"""
    if len(state) != 5 or state[0] != 1 or type(state[3]) is not bool:
      raise ValueError('the state of an array is not as NumPy writes it')
    self.fill(state[4], state[2], state[1], 'F' if state[3] else 'C')

  def fill(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
    if self.value is not None:
      raise ValueError('an array gets its values twice')
    if type(data) is not memoryview or type(dtype) is not Dtype:
      raise ValueError('the values of an array are not bytes of a known dtype')
    if (
      type(shape) is not tuple
      or len(shape) > MAX_AXES
      or not all(type(x) is int and x > 0 for x in shape)
    ):
      raise ValueError(f'a shape is not up to {MAX_AXES} positive integers')
    if order not in ('C', 'F'):
      raise ValueError("the order of an array is neither 'C' nor 'F'")
    if math.prod(shape) * dtype.value.itemsize != data.nbytes:
      raise ValueError(
        f'an array of shape {shape} and {dtype.value} has {data.nbytes} bytes'
      )
    self.value = np.ndarray(shape, dtype.value, data, order=order)


class Machine:
  """Interprets one pickle."""

  def __init__(self, data: bytes):
    self._data = memoryview(data)
    self._end = 0  # Of the instruction.
    self._encoded = 0  # Bytes that were written as text.
    self._stack: list[Any] = []
    self._below: list[list[Any]] = []  # The stacks below each mark.
    self._memo: list[Any] = []
    self.position = 0  # Of the instruction.

  def run(self) -> Any:
    """Returns what the pickle describes. Raises ValueError if it is refused."""
    if self._take(1) != pickle.PROTO or self._number('<B') not in PROTOCOLS:
      raise ValueError('it does not begin as a pickle of protocol 2 to 5')
    for _ in range(MAX_INSTRUCTIONS):
      self.position = self._end
      code = bytes(self._take(1))
      if code == pickle.STOP:
        return self._result()
      self._step(code)
    raise ValueError(f'it has more than {MAX_INSTRUCTIONS} instructions')

  def _result(self) -> Any:
    result = self._pop()
    if self._stack or self._below:
      raise ValueError('it ends with more than one object')
    if self._end != len(self._data):
      raise ValueError('it goes on after its end')
    return result

  def _step(self, code: bytes) -> None:
    push = self._stack.append
    if code in _CONSTANTS:
      push(_CONSTANTS[code])
    elif code in _INTEGERS:
      push(self._number(_INTEGERS[code]))
    elif code in _TEXTS:
      push(str(self._take(self._number(_TEXTS[code])), 'utf-8'))
    elif code in _BYTES:
      push(self._take(self._number(_BYTES[code])))
    elif code in _TUPLES:
      push(tuple([self._pop() for _ in range(_TUPLES[code])][::-1]))
    elif code in _PUTS:
      self._memoize(self._number(_PUTS[code]))
    elif code == pickle.MEMOIZE:
      self._memoize(len(self._memo))
    elif code in _GETS:
      number = self._number(_GETS[code])
      if number >= len(self._memo):
        raise ValueError(f'it has no object {number}')
      push(self._memo[number])
    elif code == pickle.FRAME:
      if self._number('<Q') > len(self._data) - self._end:
        raise ValueError('a frame is longer than the file')
    elif code == pickle.MARK:
      self._below.append(self._stack)
      self._stack = []
    elif code == pickle.TUPLE:
      items = self._pop_to_mark()
      self._stack.append(tuple(items))
    elif code == pickle.EMPTY_DICT:
      push({})
    elif code == pickle.SETITEM:
      value, key = self._pop(), self._pop()
      self._put([key, value])
    elif code == pickle.SETITEMS:
      self._put(self._pop_to_mark())
    elif code == pickle.GLOBAL:
      push(_find(f'{self._line()} {self._line()}'))
    elif code == pickle.STACK_GLOBAL:
      name, module = self._pop(), self._pop()
      if type(name) is not str or type(module) is not str:
        raise ValueError('the name of a global is not text')
      push(_find(f'{module[:MAX_NAME]} {name[:MAX_NAME]}'))
    elif code == pickle.REDUCE:
      arguments, function = self._pop(), self._pop()
      if type(function) is not _Global or type(arguments) is not tuple:
        raise ValueError('it calls what is not a global')
      push(self._call(function, arguments))
    elif code == pickle.BUILD:
      state, target = self._pop(), self._top()
      if type(target) not in (Array, Dtype) or type(state) is not tuple:
        raise ValueError('it sets a state that is not that of an array')
      target.build(state)
    else:
      raise ValueError(f'weights need no instruction {code!r}')

  def _call(self, function: _Global, arguments: tuple[Any, ...]) -> Any:
    """Builds what a known global would return."""
    if function == _Global.MAPPING:
      if len(arguments) == 1 and type(arguments[0]) is dict:
        return arguments[0]
    elif function == _Global.DTYPE:
      return Dtype(arguments)
    elif function == _Global.RECONSTRUCT:
      if arguments == (_Global.NDARRAY, (0,), b'b'):
        return Array()
    elif function == _Global.FROMBUFFER:
      if len(arguments) == 4:
        array = Array()
        array.fill(*arguments)
        return array
    elif function == _Global.ENCODE:
      text = arguments[0] if len(arguments) == 2 else None
      if type(text) is str and arguments[1] == 'latin1':
        # Each character takes at least a byte of the file, unless one text is
        # encoded again and again.
        self._encoded += len(text)
        if self._encoded > len(self._data):
          raise ValueError('it has more bytes than the file')
        return memoryview(text.encode('latin1'))
    raise ValueError(f'the arguments of {function.value} are not as expected')

  def _memoize(self, number: int) -> None:
    if number != len(self._memo):
      raise ValueError(f'it gives an object the number {number}, out of order')
    self._memo.append(self._top())

  def _put(self, items: list[Any]) -> None:
    target, keys = self._top(), items[::2]
    if type(target) is not dict or len(items) % 2:
      raise ValueError('it sets an item of what is no mapping')
    if not all(type(x) is str and len(x) <= MAX_KEY for x in keys):
      raise ValueError(f'a key is not text of up to {MAX_KEY} characters')
    target.update(zip(keys, items[1::2], strict=True))

  def _take(self, size: int) -> memoryview:
    """Returns the next bytes, which are not copied."""
    begin, self._end = self._end, self._end + size
    if self._end > len(self._data):
      raise ValueError('it is cut off, or a length in it is wrong')
    return self._data[begin : self._end]

  def _number(self, layout: str) -> int:
    (number,) = struct.unpack(layout, self._take(struct.calcsize(layout)))
    return number

  def _line(self) -> str:
    rest = bytes(self._data[self._end : self._end + MAX_NAME])
    line, newline, _ = rest.partition(b'\n')
    self._take(len(line) + len(newline))
    return line.decode('utf-8')

  def _top(self) -> Any:
    if not self._stack:
      raise ValueError('an object is missing')
    return self._stack[-1]

  def _pop(self) -> Any:
    self._top()
    return self._stack.pop()

  def _pop_to_mark(self) -> list[Any]:
    if not self._below:
      raise ValueError('a mark is missing')
    items, self._stack = self._stack, self._below.pop()
    return items


def _find(name: str) -> _Global:
  if name not in _GLOBALS:
    raise ValueError(f'weights need no global {name.replace(" ", ".")!r}')
  return _GLOBALS[name]
