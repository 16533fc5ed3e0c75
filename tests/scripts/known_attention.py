"""Makes runs with known attention: their weights are set by hand.

All elements x̂ of the normed input are about equally long, so that none meets
the query q = x̂_m better than x̂_m itself: there the logits have their maximum.
"""

import haiku as hk
import jax
import numpy as np
from PIL import Image

from configs import audioset, digits, modelnet40
from experiments import models
from experiments.benchmarks.audioset import standin
from perceiver.ops import attention
from tests.experiments.smoke import on_devices
from tests.scripts import untrained


def small(config):
  """Returns the config with two cross-attends of two latents, and no more."""
  config.update_from_flattened_dict(
    {
      'model.num_latents': 2,
      'model.latent_channels': 512,  # At least C.
      'model.num_latent_transformers': 2,
      'model.num_cross_attends': 2,
      'model.num_self_attends': 1,
      'model.share_cross_attends': False,
      'model.share_latent_transformers': True,
      'model.compute_dtype': 'float32',
    }
  )
  return config


def save(config, workdir, window, targets):
  """Makes a run of a `small` config, whose latents look at two elements.

  The targets are elements of the input `window`, which `Display.window` has
  made; the second cross-attend swaps them.
  """
  run = on_devices(config)
  batch = {name: np.asarray(x)[None] for name, x in window.items()}
  inputs = hk.transform(
    lambda x: models.byte_array(run.task, x, run.mesh).to_array()
  )

  @jax.jit
  def init(key, batch):
    params = inputs.init(key, batch)
    return params, attention.normalize(inputs.apply(params, None, batch))[0]

  params, elements = jax.device_get(init(jax.random.key(0), batch))  # [M, C]
  # All else is zero, so that nothing is ever added to the latents.
  zeros = lambda x: np.zeros(x.shape, x.dtype)
  params = jax.tree.map(zeros, run.state_shapes.params) | params
  latent = np.tile([1.0, -1.0], config.model.latent_channels // 2)
  latent = latent.astype(np.float32)
  params['perceiver']['latents'] = np.stack([latent, -latent])
  for i, (a, b) in enumerate([targets, targets[::-1]]):
    name = f'perceiver/~/cross_attend_{i}'
    params[f'{name}/latent_norm']['scale'][:] = 1
    params[f'{name}/input_norm']['scale'][:] = 1
    query, key = params[f'{name}/query'], params[f'{name}/key']
    # After its norm latent 0 is `latent`, and latent 1 is its negative.
    half = (elements[a] - elements[b]) / 2
    query['w'] = np.outer(latent, half) / len(latent)
    query['b'] = (elements[a] + elements[b]) / 2
    key['w'] = np.eye(*key['w'].shape, dtype=np.float32)
  untrained.save(run, workdir, params)


def digit(folder):
  path = folder / 'digit.png'
  pixels = np.random.default_rng(0).integers(256, size=(8, 8), dtype=np.uint8)
  Image.fromarray(pixels).save(path)
  return path


def cloud(folder):
  path = folder / 'cloud.npy'
  np.save(path, np.random.default_rng(0).normal(size=(2048, 3)))
  return path


def clip(folder):
  path = folder / 'clip.mp4'
  rng = np.random.default_rng(0)
  noise = lambda: rng.integers(256, size=(40, 48, 3), dtype=np.uint8)
  images = [Image.fromarray(noise()) for _ in range(20)]
  standin.write_media(str(path), images, rng.normal(0, 0.2, 20 * 1920))
  return path


def events(*inputs):
  return audioset.get_config('events_av'), {'task.inputs': inputs}


# A file, its config, and where the latents look in each kind of segment.
CASES = {
  'image': (digit, digits.get_config(), {}, {'image': [(2, 3), (7, 0)]}),
  'permuted': (
    digit,
    digits.get_config(),
    {'task.permuted': True},
    {'image': [(2, 3), (7, 0)]},
  ),
  'learned': (
    digit,
    digits.get_config(),
    {'task.positions': 'learned'},
    {'image': [(5, 1), (4, 4)]},
  ),
  'points': (
    cloud,
    modelnet40.get_config('solids'),
    {},
    {'points': [(17,), (2000,)]},
  ),
  'video': (clip, *events('video'), {'video': [(1, 2, 5), (0, 7, 7)]}),
  'mel': (clip, *events('mel'), {'spectrogram': [(3, 6), (30, 1)]}),
  'sound': (clip, *events('raw'), {'sound': [(77,), (5,)]}),
  'fused': (
    clip,
    *events('video', 'mel'),
    {'video': [(0, 4, 2)], 'spectrogram': [(11, 5)]},
  ),
}
