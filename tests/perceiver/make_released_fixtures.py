"""Writes small models into files made as the authors' `.pystate` files are.

The arrays are random; the names, and the pickle's globals, are those of 2021.
To be run by hand:

  python -m tests.perceiver.make_released_fixtures
"""

import io
import pathlib
import pickle

from haiku._src import data_structures
import numpy as np

FOLDER = pathlib.Path(__file__).parent / 'released'
# Sizes that differ, so that confusing two of them shows; the authors' models
# have 512 latents of 1024 channels. Eight heads share the latents' channels.
LATENTS, CHANNELS, ATTENTION, CLASSES, SELF_ATTENDS = 6, 16, 12, 5, 2
HIDDEN = {'cross_attention': 48, 'self_attention': 32}
SIDE, TABLE, POSITIONS, PIXELS, FEATURES = 9, 7, 10, 4, 11
FOURIER = 258
INPUT = {
  'fourier': 3 + FOURIER,
  'learned': PIXELS + POSITIONS,
  'conv': FEATURES + FOURIER,
}
ENCODER = 'perceiver_encoder/~'
DECODER = 'classification_decoder/~/basic_decoder'
IMAGE = 'image_preprocessor/~'
POSITION = 'image_preprocessor/~_build_network_inputs'
CONV = f'{IMAGE}/conv2_d_downsample/~'


def linear(path, inputs, outputs):
  return {f'{path}/w': (inputs, outputs), f'{path}/b': (outputs,)}


def norm(path, *shape):
  return {f'{path}/scale': shape, f'{path}/offset': shape}


def block(path, inputs, attention, hidden, num_norms):
  """Shapes of a block whose queries and results have `CHANNELS`."""
  sizes = [CHANNELS, inputs, CHANNELS] if num_norms == 3 else 2 * [CHANNELS]
  shapes = {}
  for i, size in enumerate(sizes):
    shapes |= norm(f'{path}/layer_norm' + (f'_{i}' if i else ''), size)
  for suffix, size in {'': CHANNELS, '_1': inputs, '_2': inputs}.items():
    shapes |= linear(f'{path}/attention/linear{suffix}', size, attention)
  return {
    **shapes,
    **linear(f'{path}/attention/linear_3', attention, CHANNELS),
    **linear(f'{path}/mlp/linear', CHANNELS, hidden),
    **linear(f'{path}/mlp/linear_1', hidden, CHANNELS),
  }


def parameters(kind, num_classes=CLASSES):
  """Shapes of the parameters by 'module/name'."""
  table = 'trainable_position_encoding/pos_embs'
  hidden = HIDDEN['cross_attention']
  shapes = {
    f'{ENCODER}/{table}': (LATENTS, CHANNELS),
    f'{DECODER}/~/{table}': (1, CHANNELS),
    **linear(f'{DECODER}/output', CHANNELS, num_classes),
    **block(f'{ENCODER}/cross_attention', INPUT[kind], ATTENTION, hidden, 3),
    **block(f'{DECODER}/cross_attention', CHANNELS, CHANNELS, CHANNELS, 3),
  }
  for i in range(SELF_ATTENDS):
    path = f'{ENCODER}/self_attention' + (f'_{i}' if i else '')
    hidden = HIDDEN['self_attention']
    shapes |= block(path, CHANNELS, CHANNELS, hidden, 2)
  if kind == 'learned':
    shapes |= {
      f'{IMAGE}/conv2_d/w': (1, 1, 3, PIXELS),
      f'{IMAGE}/conv2_d/b': (PIXELS,),
      f'{POSITION}/{table}': (SIDE * SIDE, TABLE),
      **linear(
        f'{POSITION}/position_encoding_projector/linear', TABLE, POSITIONS
      ),
    }
  elif kind == 'conv':
    shapes |= {
      f'{CONV}/conv/w': (7, 7, 3, FEATURES),
      **norm(f'{CONV}/batchnorm', 1, 1, 1, FEATURES),
    }
  return shapes


def draw(kind, seed, **sizes):
  """Draws a file's params and state, in which every number matters."""
  rng = np.random.default_rng(seed)
  params = {}
  for name, shape in parameters(kind, **sizes).items():
    values = 0.3 * rng.normal(size=shape) + name.endswith('/scale')
    if name.endswith('pos_embs'):
      values *= 5
    params[name] = values.astype(np.float32)
  state = {}
  if kind == 'conv':
    for moment in ('mean', 'var'):
      path = f'{CONV}/batchnorm/~/{moment}_ema'
      average = rng.uniform(0.2, 3, size=(1, 1, 1, FEATURES))
      state[f'{path}/average'] = average.astype(np.float32)
      state[f'{path}/hidden'] = state[f'{path}/average'] * np.float32(0.9)
      state[f'{path}/counter'] = np.array(1000, np.int32)
  return params, state


class Mapping(dict):
  """To be pickled as the immutable mapping of that time's Haiku."""


class Pickler(pickle.Pickler):
  def reducer_override(self, data):
    if isinstance(data, Mapping):
      return data_structures.FlatMapping, (dict(data),)
    return NotImplemented


def nested(arrays):
  """Returns module -> name -> array."""
  modules = {}
  for path, array in arrays.items():
    module, _, name = path.rpartition('/')
    modules.setdefault(module, {})[name] = array
  return Mapping({path: Mapping(leaves) for path, leaves in modules.items()})


def dumps(params, state):
  """Pickles arrays by 'module/name'."""
  file = io.BytesIO()
  Pickler(file, protocol=3).dump(
    {'params': nested(params), 'state': nested(state)}
  )
  # Its name in NumPy before version 2.
  return file.getvalue().replace(b'cnumpy._core.', b'cnumpy.core.')


def main():
  FOLDER.mkdir(exist_ok=True)
  for seed, kind in enumerate(INPUT):
    path = FOLDER / f'imagenet_{kind}.pystate'
    path.write_bytes(dumps(*draw(kind, seed)))


if __name__ == '__main__':
  main()
