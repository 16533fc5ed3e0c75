"""Small models with random weights, to be written to folders and read."""

import pathlib

import haiku as hk
import jax
import numpy as np

import perceiver
from perceiver import modalities
from tests.perceiver.test_modalities import IMAGE, MEL, POINTS, VIDEO

TRANSFORMERS = pathlib.Path(__file__).parent / 'transformers'
RNG = np.random.default_rng(0)
MODEL = {
  'num_classes': 3,
  'num_latents': 4,
  'latent_channels': 8,
  'num_latent_transformers': 2,
  'num_self_attends': 1,
  'num_cross_attends': 2,
  'self_attend_heads': 2,
}
INPUTS = {
  'image': {'image': IMAGE},
  'points': {'points': POINTS},
  'events': {'video': VIDEO, 'mel': MEL},
}


def random_input(modality, batch_size=2):
  if modality.source == 'points':
    return RNG.normal(size=(batch_size, *modality.shape)).astype(np.float32)
  shape = (batch_size, *modality.shape)
  return RNG.integers(0, 256, shape).astype(modality.dtype)


def random_batch(inputs):
  return {x.source: random_input(x) for x in inputs.values()}


def transformed(inputs):
  """Applies the model, assembled by hand."""

  def forward(batch):
    array = modalities.byte_array(inputs, batch)
    return perceiver.Perceiver(**MODEL)(array)

  return hk.transform(forward)


def prepared(inputs, batch):
  return {
    x.source: x.prepare(batch[x.source], normalized=False)
    for x in inputs.values()
  }


def random_params(inputs, data):
  shapes = jax.eval_shape(transformed(inputs).init, jax.random.key(0), data)
  draw = lambda x: RNG.normal(0, 0.3, x.shape).astype(np.float32)
  return jax.tree.map(draw, shapes)


def config_of(inputs):
  return {
    'model': dict(MODEL),
    'input': {name: modalities.to_json(x) for name, x in inputs.items()},
    'classes': ['cat', 'dog', 'owl'],
    'scores': 'softmax',
  }
