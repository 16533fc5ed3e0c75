"""Parts of pickles, put together by hand."""

import pickle
import struct

import numpy as np


def text(value):
  data = value.encode()
  return pickle.BINUNICODE + struct.pack('<I', len(data)) + data


def binary(value):
  return pickle.BINBYTES + struct.pack('<I', len(value)) + value


def number(value):
  return pickle.BININT + struct.pack('<i', value)


def named(name, protocol=2):
  """Pushes the global 'module name'."""
  module, _, name = name.partition(' ')
  if protocol == 2:
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode()
  return text(module) + text(name) + pickle.STACK_GLOBAL


def items(*values):
  return pickle.MARK + b''.join(values) + pickle.TUPLE


def call(function, *arguments):
  return named(function) + items(*arguments) + pickle.REDUCE


def mapping(*pairs):
  return (
    pickle.EMPTY_DICT + pickle.MARK + b''.join(map(b''.join, pairs))
  ) + pickle.SETITEMS


def whole(body, protocol=4):
  return pickle.PROTO + bytes([protocol]) + body + pickle.STOP


F4 = call('numpy dtype', text('f4'), pickle.NEWFALSE, pickle.NEWTRUE)
EMPTY = call(
  'numpy.core.multiarray _reconstruct',
  *(named('numpy ndarray'), items(number(0)), binary(b'b')),
)


def dtype_state(*changes):
  state = [number(3), text('<'), *[pickle.NONE] * 3, *[number(-1)] * 2]
  state.append(number(0))
  for index, value in changes:
    state[index] = value
  return items(*state) + pickle.BUILD


def array(
  shape=None,
  data=None,
  dtype=F4,
  version=None,
  order=pickle.NEWFALSE,
  extra=b'',
):
  """Pushes an array of four zeros, or with other parts than it has."""
  shape = items(number(4)) if shape is None else shape
  data = binary(bytes(16)) if data is None else data
  version = number(1) if version is None else version
  state = items(version, shape, dtype, order, data, extra)
  return EMPTY + state + pickle.BUILD


def frombuffer(*changes):
  arguments = [binary(bytes(16)), F4, items(number(4)), text('C')]
  for index, value in changes:
    arguments[index] = value
  return call('numpy.core.numeric _frombuffer', *arguments)


def weights(params, state=pickle.EMPTY_DICT):
  return mapping((text('params'), params), (text('state'), state))


def holding(value, name='w'):
  """Pushes weights with one value."""
  return weights(mapping((text('m'), mapping((text(name), value)))))


def honest(protocol=4):
  """Returns a small file as the authors' are."""
  rng = np.random.default_rng(0)
  arrays = {
    'w': rng.normal(size=(3, 4)).astype('f4'),
    'b': np.asfortranarray(rng.normal(size=(2, 2))),
  }
  weights = {
    'params': {'a/b': arrays, 'a': {'w': np.ones(3, 'f4')}},
    'state': {'a/mean_ema': {'counter': np.array(7, 'i4')}},
  }
  return pickle.dumps(weights, protocol)
