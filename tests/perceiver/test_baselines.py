"""The baselines: the literature's sizes, and what permuting does to them."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from experiments.models import model_shapes
import perceiver
from perceiver import baselines, cost

SIZE, BANDS = 8, 2


def rgb(size):
  """Makes the input of an RGB image without position features."""
  image = jnp.zeros((1, size, size, 3))
  return perceiver.ByteArray((perceiver.Segment(image, image[..., :0]),))


def count(model, inputs):
  forward = hk.transform_with_state(lambda x: model()(x, True))
  params, _ = jax.eval_shape(forward.init, jax.random.key(0), inputs)
  return cost.count_parameters(params)


@pytest.mark.parametrize(
  ('model', 'parameters'),
  [
    # Exactly as in torchvision's models of the same name.
    (baselines.ResNet, 25_557_032),
    (baselines.VisionTransformer, 86_567_656),
  ],
)
def test_on_rgb_the_sizes_are_the_literatures(model, parameters):
  assert count(lambda: model(1000), rgb(224)) == parameters


@pytest.mark.parametrize(
  ('variant', 'on_rgb', 'weights_per_channel'),
  [
    ('resnet50', 25_557_032, 7 * 7 * 64),
    ('vit_b16', 86_567_656, 16 * 16 * 768),
  ],
)
def test_fourier_features_widen_the_first_layer_alone(
  variant, on_rgb, weights_per_channel
):
  params, inputs = model_shapes(imagenet.get_config(variant))
  assert inputs.num_channels == 261
  assert cost.count_parameters(params) == on_rgb + 258 * weights_per_channel


def segment(key):
  image = jax.random.normal(key, (2, SIZE, SIZE, 3))
  return perceiver.Segment(
    image, perceiver.fourier_axes((SIZE, SIZE), BANDS, SIZE)
  )


MODELS = {
  'resnet': lambda: baselines.ResNet(
    5, blocks=(1,) * 4, channels=(8,) * 4, stem_channels=4, stem_stride=1
  ),
  'vit': lambda: baselines.VisionTransformer(
    5, patch_size=2, channels=8, num_self_attends=1, self_attend_heads=2
  ),
  'transformer': lambda: baselines.Transformer(
    5, channels=8, num_self_attends=1, self_attend_heads=2
  ),
  'perceiver': lambda: perceiver.Perceiver(
    5,
    num_latents=4,
    latent_channels=8,
    num_latent_transformers=1,
    num_self_attends=1,
    num_cross_attends=1,
    self_attend_heads=2,
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


@pytest.mark.parametrize('name', ['resnet', 'vit', 'transformer'])
def test_in_bfloat16_logits_and_parameters_stay_float32(name):
  def forward(s):
    model = MODELS[name]()
    model.compute_dtype = 'bfloat16'
    return model(perceiver.ByteArray((s,)), True)

  inputs = segment(jax.random.key(0))
  transformed = hk.transform_with_state(forward)
  shapes = jax.eval_shape(transformed.init, jax.random.key(1), inputs)
  params, _ = shapes
  logits, state = jax.eval_shape(transformed.apply, *shapes, None, inputs)
  assert logits.dtype == jnp.float32
  leaves = jax.tree.leaves((params, state))
  assert {x.dtype for x in leaves} <= {jnp.dtype('float32'), jnp.dtype('int32')}


def test_a_wrong_grid_is_one_clear_error():
  points = perceiver.ByteArray(
    (perceiver.Segment(jnp.zeros((1, 7, 0)), jnp.zeros((1, 7, 3))),)
  )
  with pytest.raises(ValueError, match=r'one 2-D grid of inputs, got \[\(7,'):
    baselines.image(points)
  with pytest.raises(ValueError, match='patch_size=16 does not divide'):
    count(lambda: baselines.VisionTransformer(5), rgb(24))
