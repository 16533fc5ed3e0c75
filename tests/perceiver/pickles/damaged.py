"""Files that are damaged, or that hold something else than weights."""

import io
import itertools
import pathlib
import pickle
import struct

import numpy as np

from tests.perceiver.pickles.parts import (
  array,
  binary,
  call,
  dtype_state,
  EMPTY,
  F4,
  holding,
  honest,
  items,
  mapping,
  named,
  number,
  text,
  weights,
  whole,
)

OTHER_DTYPES = ('O8', 'V4', 'S4', 'U4', 'M8', 'm8', 'b1', 'c8', 'f', 'f16', '')


def _arrays():
  for name, shape in {
    'longer': items(number(5)),
    'shorter': items(number(3)),
    'none': items(),
    'negative': items(number(-2), number(-2)),
    'zero': items(number(0)),
    'huge': items(*[number(2**31 - 1)] * 8),
    'wrapping': items(number(1 << 30), number(1 << 30), number(16)),
    'deep': items(*[number(1)] * 1000, number(4)),
    'true': items(pickle.NEWTRUE, number(4)),
    'text': items(text('4')),
    'nested': items(items(number(4))),
    'number': number(4),
    'nothing': pickle.NONE,
  }.items():
    yield f'shape {name}', whole(holding(array(shape)))
  for name in OTHER_DTYPES:
    dtype = call('numpy dtype', text(name), pickle.NEWFALSE, pickle.NEWTRUE)
    yield f'dtype {name}', whole(holding(array(dtype=dtype)))
  subarray = items(F4, items(number(1 << 20)))
  for name, changes in {
    'version': [(0, number(4))],
    'order': [(1, text('x'))],
    'subarray': [(2, subarray)],
    'fields': [(3, items(text('a'))), (4, mapping((text('a'), F4)))],
    'size': [(5, number(1 << 20))],
    'alignment': [(6, number(16))],
    'objects': [(7, number(63))],
  }.items():
    dtype = F4 + dtype_state(*changes)
    yield f'dtype with {name}', whole(holding(array(dtype=dtype)))
  nan, infinite = (struct.pack('<4f', 0, x, 0, 0) for x in (np.nan, np.inf))
  for name, body in {
    'version': array(version=number(2)),
    'order': array(order=text('F')),
    'longer': array(extra=number(0)),
    'objects': array(data=items(*[pickle.NONE] * 4)),
    'text': array(data=text('0' * 16)),
    'nan': array(data=binary(nan)),
    'infinite': array(data=binary(infinite)),
    'no dtype': array(dtype=pickle.NONE),
    'text dtype': array(dtype=text('f4')),
    'empty': EMPTY,
    'twice': array() + items(*[pickle.NONE] * 5) + pickle.BUILD,
    'short': EMPTY + items(number(1)) + pickle.BUILD,
  }.items():
    yield f'array {name}', whole(holding(body))


def _structures():
  itself = pickle.EMPTY_DICT + pickle.BINPUT + b'\0'
  again = pickle.BINGET + b'\0'
  sections = (text('params'), text('state'))
  module = mapping((text('m'), mapping((text('w'), array()))))
  yield (
    'itself',
    whole(itself + b''.join(x + again + pickle.SETITEM for x in sections)),
  )
  yield (
    'itself inside',
    whole(
      mapping(
        (sections[0], itself + text('m') + again + pickle.SETITEM),
        (sections[1], pickle.EMPTY_DICT),
      )
    ),
  )
  yield (
    'itself as shape',
    whole(holding(array(shape=itself + text('m') + again + pickle.SETITEM))),
  )
  for name, body in {
    'nothing': b'',
    'none': pickle.NONE,
    'array': array(),
    'no sections': module,
    'one section': mapping((sections[0], pickle.EMPTY_DICT)),
    'another section': mapping(
      *((x, pickle.EMPTY_DICT) for x in (*sections, text('step')))
    ),
    'tuple for a section': mapping(
      *((x, pickle.EMPTY_TUPLE) for x in sections)
    ),
    'array for a module': weights(mapping((text('m'), array()))),
    'mapping for an array': holding(pickle.EMPTY_DICT),
    'text for an array': holding(text('x')),
    'global for an array': holding(named('numpy ndarray')),
    'in both sections': weights(module, module),
    'number as a key': pickle.EMPTY_DICT + number(1) * 2 + pickle.SETITEM,
    'odd items': pickle.EMPTY_DICT + pickle.MARK + text('a') + b'u',
    'items of text': text('a') + text('b') * 2 + pickle.SETITEM,
    'two objects': pickle.NONE * 2,
    'open mark': pickle.MARK + pickle.NONE,
    'no mark': pickle.NONE + pickle.TUPLE,
    'below a mark': pickle.NONE + pickle.MARK + pickle.TUPLE1,
    'no objects': pickle.TUPLE3,
    'no arguments': pickle.REDUCE,
    'nothing to memoize': pickle.MEMOIZE,
    'global without an end': pickle.GLOBAL + b'numpy',
    'global of numbers': number(1) * 2 + pickle.STACK_GLOBAL,
    'bad UTF-8': b'\x8c\2\xff\xfe',
    'surrogates': b'\x8c\3\xed\xa0\x80',
    'protocol inside': honest()[:-1] + pickle.PROTO + b'\4',
    'pickle after it': honest()[2:] + honest(),
  }.items():
    yield f'structure {name}', whole(body)
  for protocol in (0, 1, 6, 255):
    yield f'protocol {protocol}', whole(honest()[2:-1], protocol)
  buffer = io.BytesIO()
  np.savez(buffer, w=np.ones(3))
  for name, data in {
    'empty': b'',
    'zip': buffer.getvalue(),
    'text': b'version https://git-lfs.github.com/spec/v1\n',
    'gzip': b'\x1f\x8b\x08\0\0\0\0\0',
    'protocol 0 of Python': pickle.dumps({'params': {}}, 0),
    'only its first byte': pickle.PROTO,
    'class': pickle.dumps(pathlib.PurePosixPath('x')),
    'objects': pickle.dumps({'params': {'m': {'w': np.array([None])}}}),
  }.items():
    yield f'file {name}', data
  for protocol in range(2, 6):
    data = honest(protocol)
    for size in range(1, len(data), len(data) // 6):
      yield f'cut off {protocol} {size}', data[:size]
    yield f'goes on {protocol}', data + b'x'


def files():
  """Returns the files by name, always the same."""
  return dict(itertools.chain(_arrays(), _structures()))
