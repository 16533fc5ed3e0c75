"""Pickles that would do harm: run something, or take all memory."""

import itertools
import pickle
import pickletools
import struct

from tests.perceiver.pickles.parts import (
  array,
  binary,
  call,
  EMPTY,
  F4,
  frombuffer,
  holding,
  items,
  mapping,
  named,
  number,
  text,
  weights,
  whole,
)

CANARY = 'pystate_canary'  # A module that must not be imported.
WRONG_GLOBALS = (
  *('os system', 'posix system', 'nt system', 'os popen', 'os remove'),
  *('subprocess Popen', 'subprocess run', 'pty spawn', 'runpy run_path'),
  *('builtins eval', 'builtins exec', 'builtins __import__', 'builtins open'),
  *('builtins getattr', 'builtins bytes', 'builtins bytearray'),
  *('__builtin__ eval', 'importlib import_module', 'pickle loads'),
  *('ctypes CDLL', 'shutil rmtree', 'socket create_connection'),
  *('webbrowser open', 'copyreg _reconstructor', 'collections OrderedDict'),
  *('operator attrgetter', 'functools partial', 'types CodeType'),
  *('numpy load', 'numpy fromfile', 'numpy memmap', 'numpy ndarray.tofile'),
  *('numpy.core.multiarray scalar', 'numpy ', ' ', 'numpy\x00 ndarray'),
  *('haiku._src.data_structures jax', 'haiku._src.data_structures Stack'),
  *('haiku FlatMapping', 'jax._src.array _reconstruct_array'),
  *('torch._utils _rebuild_tensor_v2', '_codecs decode', 'codecs encode'),
  *(f'{CANARY} run', f'{CANARY} ', f'{"m" * 100_000} run'),
)
OTHER_ENCODINGS = (
  *('utf-8', 'ascii', 'latin-1', 'LATIN1', 'iso8859', 'utf-16', 'idna'),
  *('punycode', 'rot13', 'zlib', 'bz2', 'base64', 'unicode_escape', CANARY),
)


def _globals():
  for name, protocol in itertools.product(WRONG_GLOBALS, (2, 4)):
    body = named(name, protocol) + items(text('touch canary')) + pickle.REDUCE
    yield f'global {name[:40]} {protocol}', whole(holding(body), protocol)


def _instructions():
  """Each instruction that weights do not need, with a plausible argument."""
  known = set(
    b'\x80.N\x88\x89)JKMhjqr\x94X\x8c\x8dBC\x8e\x96\x85\x86\x87\x95(t}suc\x93Rb'
  )
  for opcode in pickletools.opcodes:
    if ord(opcode.code) not in known:
      body = opcode.code.encode('latin1') + b'1\n' + b'\xff' * 300 + b'\n'
      yield f'instruction {opcode.name}', whole(body)


def _lengths():
  sized = {'\x8c': 'B', 'X': 'I', '\x8d': 'Q', 'C': 'B', 'B': 'I'}
  for code, layout in (sized | {'\x8e': 'Q', '\x96': 'Q', '\x95': 'Q'}).items():
    most = (1 << 8 * struct.calcsize(layout)) - 1
    for size in {most, most // 2, 100}:
      body = code.encode('latin1') + struct.pack(f'<{layout}', size)
      yield f'length {code!r} {size}', whole(body + b'x' * 50)


def _memo():
  for index in (1, 255, 1 << 31, (1 << 32) - 1):
    which = struct.pack('<I', index)
    yield f'memo {index}', whole(pickle.NONE + pickle.LONG_BINPUT + which)
    yield f'no memo {index}', whole(pickle.LONG_BINGET + which)


def _states():
  """State that is set on what has none."""
  state = mapping((text('__class__'), named('numpy ndarray')))
  targets = {
    'dict': pickle.EMPTY_DICT,
    'mapping': call(
      'haiku._src.data_structures FlatMapping', pickle.EMPTY_DICT
    ),
    'frozendict': call(
      'haiku._src.data_structures frozendict', pickle.EMPTY_DICT
    ),
    'global': named('numpy ndarray'),
    'function': named('_codecs encode'),
    'class': named('haiku._src.data_structures FlatMapping'),
    'text': text('x'),
    'bytes': binary(b'x'),
    'tuple': pickle.EMPTY_TUPLE,
    'number': number(3),
    'none': pickle.NONE,
    'array': EMPTY,
    'dtype': F4,
  }
  for name, target in targets.items():
    yield f'state {name}', whole(holding(target + state + pickle.BUILD))
    both = items(pickle.NONE, state) + pickle.BUILD
    yield f'slots {name}', whole(holding(target + both))


def _arguments():
  buffer = 'numpy.core.numeric _frombuffer'
  rebuild = 'numpy.core.multiarray _reconstruct'
  flat = 'haiku._src.data_structures FlatMapping'
  zero = items(number(0))
  for name, body in {
    'ndarray': call('numpy ndarray', items(number(1 << 30))),
    'ndarray()': call('numpy ndarray'),
    'FlatMapping()': call(flat),
    'FlatMapping(2)': call(flat, pickle.EMPTY_DICT, pickle.EMPTY_DICT),
    'FlatMapping(tuple)': call(flat, pickle.EMPTY_TUPLE),
    'FlatMapping(array)': call(flat, array()),
    'FlatMap(text)': call('haiku._src.data_structures FlatMap', text('x')),
    'frozendict(None)': call(
      'haiku._src.data_structures frozendict', pickle.NONE
    ),
    'dtype()': call('numpy dtype'),
    'dtype(1)': call('numpy dtype', text('f4')),
    'dtype aligned': call(
      'numpy dtype', text('f4'), pickle.NEWTRUE, pickle.NEWTRUE
    ),
    'dtype of dtype': call('numpy dtype', F4, pickle.NEWFALSE, pickle.NEWTRUE),
    'dtype of ndarray': call(
      'numpy dtype', named('numpy ndarray'), pickle.NEWFALSE, pickle.NEWTRUE
    ),
    'dtype of fields': call(
      'numpy dtype', mapping((text('a'), F4)), pickle.NEWFALSE, pickle.NEWTRUE
    ),
    'reconstruct()': call(rebuild),
    'reconstruct dict': call(rebuild, pickle.EMPTY_DICT, zero, binary(b'b')),
    'reconstruct dtype': call(
      rebuild, named('numpy dtype'), zero, binary(b'b')
    ),
    'reconstruct large': call(
      rebuild, named('numpy ndarray'), items(number(1 << 30)), binary(b'b')
    ),
    'reconstruct object': call(
      rebuild, named('numpy ndarray'), zero, binary(b'O')
    ),
    'frombuffer()': call(buffer),
    'frombuffer(1)': call(buffer, binary(bytes(4))),
    'frombuffer text': frombuffer((0, text('x' * 16))),
    'frombuffer no dtype': frombuffer((1, text('f4'))),
    'frombuffer no shape': frombuffer((2, number(4))),
    'frombuffer long': frombuffer((2, items(number(5)))),
    'frombuffer order': frombuffer((3, text('K'))),
    'frombuffer numbered': frombuffer((3, number(0))),
    'frombuffer built': frombuffer() + pickle.EMPTY_TUPLE + pickle.BUILD,
    'encode()': call('_codecs encode'),
    'encode(1)': call('_codecs encode', text('x')),
    'encode bytes': call('_codecs encode', binary(b'x'), text('latin1')),
    'encode errors': call(
      '_codecs encode', text('x'), text('latin1'), text('ignore')
    ),
    'called dict': pickle.EMPTY_DICT + items() + pickle.REDUCE,
    'called text': text('os.system') + items(text('x')) + pickle.REDUCE,
    'called array': array() + items() + pickle.REDUCE,
    'called with dict': (
      named('numpy dtype') + pickle.EMPTY_DICT + pickle.REDUCE
    ),
  }.items():
    yield f'call {name}', whole(holding(body))
  for name in OTHER_ENCODINGS:
    data = call('_codecs encode', text('0' * 16), text(name))
    yield f'encoding {name}', whole(holding(array(data=data)), 2)
  data = call('_codecs encode', text('\u0100' * 16), text('latin1'))
  yield 'encoding beyond latin1', whole(holding(array(data=data)), 2)


def bombs():
  """Returns small files that would take much memory or time, by name."""
  many, million = 1 << 19, 1_000_000
  put, get = pickle.BINPUT + b'\0', pickle.BINGET + b'\0'
  deep = pickle.EMPTY_TUPLE + pickle.TUPLE1 * 200_000
  laughs = pickle.NONE + pickle.MEMOIZE
  for i in range(100):
    again = pickle.BINGET + bytes([i])
    laughs += again * 3 + pickle.TUPLE3 + pickle.MEMOIZE
  encode = named('_codecs encode') + pickle.MARK + get + text('latin1')
  encode += pickle.TUPLE + pickle.REDUCE
  large = array(items(number(million)), binary(bytes(4 * million))) + put
  i1 = call('numpy dtype', text('i1'), pickle.NEWFALSE, pickle.NEWTRUE)
  small = array(items(number(1)), binary(b'1'), i1) + put
  names = [(text(f'w{i}'), get) for i in range(5000)]
  modules = [(text(f'm{i}'), pickle.BINGET + b'\1') for i in range(5000)]
  one_module = mapping((text('w'), small), *names) + pickle.BINPUT + b'\1'
  return {
    'mappings': whole(pickle.EMPTY_DICT * many),
    'marks': whole(pickle.MARK * many),
    'tuples': whole(pickle.EMPTY_TUPLE * many),
    'nothing': whole(pickle.NONE * many),
    'empty bytes': whole((pickle.SHORT_BINBYTES + b'\0') * many),
    'texts': whole(b'\x8c\1a' * many),
    'numbers': whole(number(1 << 30) * many),
    'memo': whole(pickle.NONE + pickle.MEMOIZE * many),
    'memo of mappings': whole((pickle.EMPTY_DICT + pickle.MEMOIZE) * many),
    'nested tuples': whole(holding(deep)),
    'tuples nested too deeply': whole(holding(deep * 2)),
    'nested key': whole(
      pickle.EMPTY_DICT + deep + pickle.NONE + pickle.SETITEM
    ),
    'nested shape': whole(holding(array(items(deep)))),
    'nested mappings': whole(
      pickle.EMPTY_DICT
      + (text('a') + pickle.EMPTY_DICT) * 50_000
      + pickle.SETITEM * 50_000
    ),
    'laughs': whole(laughs),
    'text encoded again and again': whole(
      text('a' * million) + put + encode * 10_000
    ),
    'text of four bytes a character': whole(text('a' * million + '\U0001f600')),
    'array named again and again': whole(
      weights(mapping((text('m'), mapping((text('w'), large), *names))))
    ),
    'mapping named again and again': whole(
      weights(mapping((text('m'), one_module), *modules))
    ),
    'long key': whole(holding(array(), 'w' * million)),
  }


def files():
  """Returns all others by name, always the same."""
  makers = (_globals, _instructions, _lengths, _memo, _states, _arguments)
  return dict(itertools.chain.from_iterable(make() for make in makers))
