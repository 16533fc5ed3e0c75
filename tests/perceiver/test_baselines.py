"""The baselines: the literature's sizes, and what permuting does to them."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from experiments.models import model_shapes
import perceiver
from perceiver import baselines, cost
from tests.perceiver.conftest import grid_segment

SIZE = 8


def rgb(size):
  """Makes the input of an RGB image without position features."""
  image = jnp.zeros((1, size, size, 3))
  return perceiver.ByteArray((perceiver.Segment(image, image[..., :0]),))


def count(model, inputs):
  forward = hk.transform_with_state(lambda x: model()(x, True))
  params, _ = jax.eval_shape(forward.init, jax.random.key(0), inputs)
  return cost.count_parameters(params)


@pytest.mark.parametrize(
  ('model', 'variant', 'on_rgb', 'weights_per_channel'),
  [
    (baselines.ResNet, 'resnet50', 25_557_032, 7 * 7 * 64),
    (baselines.VisionTransformer, 'vit_b16', 86_567_656, 16 * 16 * 768),
  ],
)
def test_fourier_features_widen_the_first_layer_alone(
  model, variant, on_rgb, weights_per_channel
):
  # Exactly as in torchvision's models of the same name.
  assert count(lambda: model(1000), rgb(224)) == on_rgb
  params, inputs = model_shapes(imagenet.get_config(variant))
  assert inputs.num_channels == 261
  assert cost.count_parameters(params) == on_rgb + 258 * weights_per_channel


def segment(key):
  return grid_segment(jax.random.normal(key, (2, SIZE, SIZE, 3)), 2, SIZE)


SMALL = {'num_self_attends': 1, 'self_attend_heads': 2}
MODELS = {
  'resnet': functools.partial(
    baselines.ResNet,
    5,
    blocks=(1,) * 4,
    channels=(8,) * 4,
    stem_channels=4,
    stem_stride=1,
  ),
  'vit': functools.partial(
    baselines.VisionTransformer, 5, patch_size=2, channels=8, **SMALL
  ),
  'transformer': functools.partial(
    baselines.Transformer, 5, channels=8, **SMALL
  ),
  'perceiver': functools.partial(
    perceiver.Perceiver,
    5,
    num_latents=4,
    latent_channels=8,
    num_latent_transformers=1,
    num_cross_attends=1,
    **SMALL,
  ),
}


@pytest.mark.parametrize(
  ('name', 'is_changed'),
  [
    pytest.param('resnet', True, marks=pytest.mark.slow),
    ('vit', True),
    ('transformer', False),
  ],
)
def test_permuting_pixels_with_their_positions(name, is_changed):
  inputs = segment(jax.random.key(0))
  order = np.random.default_rng(0).permutation(SIZE * SIZE)
  forward = hk.transform_with_state(
    lambda s, is_training: MODELS[name]()(
      perceiver.ByteArray((s,)), is_training
    )
  )
  init = jax.jit(forward.init, static_argnums=2)
  params, state = init(jax.random.key(1), inputs, True)
  apply = jax.jit(lambda s: forward.apply(params, state, None, s, False)[0])
  plain, permuted = apply(inputs), apply(inputs.permute(order))
  difference = np.abs(plain - permuted).max() / np.abs(plain).max()
  # Either float32 rounding of sums in another order, or as large as logits.
  assert difference > 1e-2 if is_changed else difference < 1e-5


def test_a_wrong_grid_is_one_clear_error():
  points = perceiver.ByteArray(
    (perceiver.Segment(jnp.zeros((1, 7, 0)), jnp.zeros((1, 7, 3))),)
  )
  with pytest.raises(ValueError, match=r'one 2-D grid of inputs, got \[\(7,'):
    baselines.image(points)
  with pytest.raises(ValueError, match='patch_size=16 does not divide'):
    count(lambda: baselines.VisionTransformer(5), rgb(24))
