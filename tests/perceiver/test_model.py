"""The Perceiver agrees with a naive reference and has its properties."""

import functools
import re

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver
from perceiver.iteration import latent_transformers_after
from scripts.plan import targets
from tests.perceiver import reference
from tests.perceiver.conftest import B, grid_segment, random_data

CLASSES, BANDS, RESOLUTION = 5, 3, 6
SMALL = {
  'num_classes': CLASSES,
  'num_latents': 4,
  'latent_channels': 8,
  'num_latent_transformers': 3,
  'num_self_attends': 2,
  'num_cross_attends': 3,
  'self_attend_heads': 2,
}


def single(data, **rest):
  segment = grid_segment(data['image'], BANDS, RESOLUTION, **rest)
  return perceiver.ByteArray((segment,))


def masked(data):
  return single(data, mask=data['mask'])


def fused(data):
  """Fuses a masked image and sound on one axis, made equally wide."""
  (image,) = masked(data).segments
  sound = grid_segment(data['sound'], BANDS, RESOLUTION)
  return perceiver.ModalityEncoding(init_scale=1.0)(
    {'image': image, 'sound': sound}
  )


def points(data):
  """Makes the input of points with Fourier features."""
  cloud = data['points']
  positions = perceiver.fourier_points(cloud, BANDS, RESOLUTION)
  content = jnp.zeros((*cloud.shape[:-1], 0))
  return perceiver.ByteArray((perceiver.Segment(content, positions),))


def build(inputs, **settings):
  def forward(data, is_training=False):
    model = perceiver.Perceiver(**(SMALL | settings))
    return model(inputs(data), is_training)

  return hk.transform(forward)


@functools.cache
def parameters(inputs, **settings):
  """Draws random parameters, also for biases and layer norms."""
  data = random_data()
  init = build(inputs, **settings).init
  shapes = jax.eval_shape(init, jax.random.key(0), data)
  rng = np.random.default_rng(2)

  def draw(path, x):
    scale = 1 / np.sqrt(x.shape[0]) if path[-1].key == 'w' else 0.3
    mean = 1.0 if path[-1].key == 'scale' else 0.0
    return rng.normal(mean, scale, x.shape).astype(x.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def compiled(inputs, **settings):
  return jax.jit(build(inputs, **settings).apply)


def run(inputs, params, data, **settings):
  return compiled(inputs, **settings)(params, None, data)


def byte_array_reference(inputs, params, data):
  """Returns [B, M, C] and the mask [B, M], in NumPy."""
  if inputs is points:
    features = reference.fourier(data['points'], BANDS, RESOLUTION)
    return features, np.ones((B, 9))

  def elements(name):
    content = data[name]
    positions = reference.grid(*content.shape[1:-1])
    parts = [content, reference.fourier(positions, BANDS, RESOLUTION)]
    if inputs is fused:
      parts.append(params['modality_encoding'][name])
    spread = [
      np.broadcast_to(x, (*content.shape[:-1], x.shape[-1])) for x in parts
    ]
    array = np.concatenate(spread, axis=-1)
    return array.reshape(B, -1, array.shape[-1])

  mask = data['mask'].reshape(B, -1).astype(float)
  if inputs is single:
    return elements('image'), np.ones_like(mask)
  if inputs is masked:
    return elements('image'), mask
  return (
    np.concatenate([elements('image'), elements('sound')], axis=1),
    np.concatenate([mask, np.ones((B, 7))], axis=1),
  )


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  ('inputs', 'stages', 'settings'),
  [
    (single, 'ctctct', {}),
    (
      single,
      'ctctct',
      {'share_cross_attends': False, 'share_latent_transformers': False},
    ),
    slow(single, 'ctctct', {'share_cross_attends': False}),
    slow(single, 'ctctct', {'share_latent_transformers': False}),
    (points, 'ctctct', {}),
    (fused, 'ctctct', {'cross_attend_heads': 2, 'cross_attend_channels': 6}),
    (single, 'cccttt', {'cross_attend_placement': 'at_start'}),
    slow(single, 'ctctt', {'num_cross_attends': 2}),
    (single, 'ccc', {'num_latent_transformers': 0}),
    (
      single,
      'ctt',
      {
        'num_cross_attends': 1,
        'num_latent_transformers': 2,
        'widening_factor': 3,
        'cross_attend_widening_factor': 2,
        'head': 'query',
      },
    ),
    (masked, 'ctctct', {'head': 'query', 'attention': 'factored'}),
    (single, 'ctctct', {'head': 'query', 'query_residual': False}),
  ],
  ids=lambda x: getattr(x, '__name__', str(x)),
)
def test_agrees_with_the_naive_reference(data, inputs, stages, settings):
  params = parameters(inputs, **settings)
  logits = run(inputs, params, data, **settings)
  array, mask = byte_array_reference(inputs, params, data)
  expected = reference.perceiver(
    params, array, mask, stages=stages, **(SMALL | settings)
  )
  error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
  assert error < 1e-5


def test_shuffling_elements_with_their_positions_changes_nothing(data):
  params = parameters(single)

  def forward(content, positions):
    segment = perceiver.Segment(content, positions)
    return perceiver.Perceiver(**SMALL)(perceiver.ByteArray((segment,)))

  apply = jax.jit(hk.transform(forward).apply)
  content = data['image'].reshape(B, 20, 3)
  positions = reference.fourier(reference.grid(4, 5), BANDS, RESOLUTION)
  positions = positions.reshape(1, 20, -1).astype(np.float32)
  order = np.random.default_rng(1).permutation(20)
  logits = apply(params, None, content, positions)
  together = apply(params, None, content[:, order], positions[:, order])
  apart = apply(params, None, content[:, order], positions)
  # Sums of 20 float32 terms in another order: a few units in the last place.
  assert_close = functools.partial(
    np.testing.assert_allclose, rtol=1e-5, atol=1e-5
  )
  assert_close(together, logits)
  assert np.abs(apart - logits).max() > 1e-2
  # Positions by axis are the same input as positions by element.
  assert_close(run(single, params, data), logits)


def test_masked_elements_have_no_influence(data):
  params = parameters(masked)
  apply = build(masked).apply
  gradient = jax.jit(jax.value_and_grad(lambda p, d: apply(p, None, d).sum()))
  logits, gradients = gradient(params, data)
  for garbage in (np.nan, np.inf, 1e30):
    image = np.where(data['mask'][..., None], data['image'], garbage)
    other = {**data, 'image': image.astype(np.float32)}
    again, other_gradients = gradient(params, other)
    assert again == logits
    jax.tree.map(np.testing.assert_array_equal, gradients, other_gradients)
  # An example without elements works as well.
  empty = gradient(params, {**data, 'mask': np.zeros_like(data['mask'])})
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(empty))
  # The mask has an effect.
  full = {**data, 'mask': np.ones_like(data['mask'])}
  assert gradient(params, full)[0] != logits


@pytest.mark.parametrize(
  ('settings', 'crosses', 'transformers'),
  [
    ({}, 2, 1),
    ({'share_cross_attends': False}, 3, 1),
    ({'share_latent_transformers': False}, 2, 3),
    ({'num_cross_attends': 1}, 1, 1),
    ({'num_latent_transformers': 0}, 2, 0),
  ],
)
def test_weights_are_shared(settings, crosses, transformers):
  paths = parameters(single, **settings)
  modules = {path.split('/')[2] for path in paths if '/~/' in path}
  count = lambda kind: sum(name.startswith(kind) for name in modules)
  assert count('cross_attend') == crosses
  assert count('latent_transformer') == transformers


def test_shared_iterations_are_traced_once(data):
  """Many iterations with shared weights compile as fast as two."""

  def size(iterations):
    settings = {
      'num_cross_attends': iterations,
      'num_latent_transformers': iterations,
    }
    apply = build(single, **settings).apply
    gradient = jax.grad(lambda p: apply(p, None, data).sum())
    program = jax.make_jaxpr(gradient)(parameters(single))
    return str(program).count('dot_general')

  assert size(16) == size(4)


ALIKE = {'num_cross_attends': 4, 'num_latent_transformers': 8}


def test_iterations_written_out_are_those_of_the_loop(data):
  def start(unroll):
    init = build(single, **ALIKE, unroll=unroll).init
    return jax.jit(init)(jax.random.key(3), data)

  jax.tree.map(np.testing.assert_array_equal, start(True), start(False))
  params = parameters(single)

  def gradient(unroll):
    apply = build(single, **ALIKE, unroll=unroll).apply
    total = lambda p: jnp.square(apply(p, None, data)).sum()
    return jax.jit(jax.value_and_grad(total))

  written_out, loop = gradient(True), gradient(False)
  assert 'while' not in written_out.lower(params).as_text()
  assert 'while' in loop.lower(params).as_text()
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    written_out(params),
    loop(params),
  )


@pytest.mark.parametrize(
  ('platform', 'unroll', 'loops', 'loops_in_training'),
  [
    (('cpu',), None, True, True),
    (('gpu',), None, True, True),
    (('tpu', 'TPU v5 lite'), None, True, False),
    (('tpu', 'TPU v4'), None, True, True),
    (('cpu',), True, False, False),
    (('tpu', 'TPU v5 lite'), False, True, True),
  ],
)
def test_the_hardware_decides_whether_training_loops(
  data, platform, unroll, loops, loops_in_training
):
  mesh = reference.mesh_of(*platform)
  settings = {'mesh': mesh, 'unroll': unroll, 'attention': 'plain', **ALIKE}
  model = build(single, **settings)
  params = jax.eval_shape(model.init, jax.random.key(0), data)

  def has_loop(is_training):
    apply = functools.partial(model.apply, is_training=is_training)
    return ' scan[' in str(jax.make_jaxpr(apply)(params, None, data))

  assert (has_loop(False), has_loop(True)) == (loops, loops_in_training)


def test_logits_in_bfloat16_are_near(data):
  params = parameters(single)
  exact = run(single, params, data)
  rounded = run(single, params, data, compute_dtype='bfloat16')
  assert rounded.dtype == jnp.float32
  error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
  assert 1e-5 < error < 0.1  # bfloat16 has 8 bits, and it was used.


@pytest.mark.slow
def test_remat_changes_the_program_but_not_the_gradient(data):
  params = parameters(single)

  def gradient(remat):
    apply = build(single, remat=remat).apply
    return jax.jit(jax.grad(lambda p: apply(p, None, data).sum()))

  plain, recomputed = gradient('none'), gradient('nothing_saveable')
  products = [
    str(f.trace(params).jaxpr).count('dot_general') for f in (plain, recomputed)
  ]
  assert products[1] > products[0]
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    recomputed(params),
    plain(params),
  )


def test_dropout_acts_in_training_alone(data):
  params = parameters(single)
  apply = jax.jit(
    build(single, dropout_rate=0.5).apply, static_argnames='is_training'
  )
  expected = run(single, params, data)
  np.testing.assert_allclose(
    apply(params, None, data, is_training=False), expected, rtol=1e-5
  )
  one, same, other = (
    apply(params, jax.random.key(k), data, is_training=True) for k in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 1e-2


@pytest.mark.slow
def test_the_latents_start_as_a_truncated_normal(data):
  settings = {
    'num_latents': 512,
    'latent_channels': 64,
    'latent_init_scale': 0.02,
  }
  params = build(single, **settings).init(jax.random.key(0), data)
  latents = params['perceiver']['latents']
  assert np.abs(latents).max() <= 0.04
  # Truncated at two, a normal distribution keeps 0.880 of its deviation.
  np.testing.assert_allclose(latents.std(), 0.02 * 0.8796, rtol=0.02)


@pytest.mark.parametrize(
  ('head', 'scale', 'deviation', 'most'),
  [
    # The truncation at two standard deviations leaves 0.8796 of them.
    ('mean', None, 1 / 16, 2 / 16 / 0.8796),
    ('query', 0.8796**2, 0.8796 / 16, 2 / 16),
    ('mean', 0.0, 0.0, 0.0),
  ],
)
def test_the_head_starts_with_its_own_scale(data, head, scale, deviation, most):
  settings = {'latent_channels': 256, 'num_classes': 400, 'head': head}
  settings |= {'head_init_scale': scale, 'num_latent_transformers': 0}
  transformed = build(single, **(settings | {'num_cross_attends': 1}))
  params = jax.jit(transformed.init)(jax.random.key(0), data)
  weights = np.asarray(params['perceiver/head']['w'])
  assert weights.shape == (256, 400)
  # 102,400 draws: six standard errors are 1.4 %.
  assert weights.std() == pytest.approx(deviation, rel=0.014)
  assert 0.99 * most <= np.abs(weights).max() <= 1.001 * most
  assert not params['perceiver/head']['b'].any()


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'self_attend_heads': 3}, 'latent_channels=8 are not divisible'),
    ({'cross_attend_heads': 3, 'cross_attend_channels': 8}, '8 channels of'),
    ({'num_cross_attends': 5}, 'Cannot interleave 5 cross-attends'),
    ({'num_cross_attends': 0}, 'num_cross_attends=0 must be'),
    ({'cross_attend_placement': 'end'}, "'end' is none of"),
    ({'query_residual': False}, "query_residual=False needs head='query'"),
    ({'remat': 'all'}, "remat='all' is neither"),
  ],
)
def test_impossible_settings(data, settings, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(build(single, **settings).init, jax.random.key(0), data)


def test_placement_of_cross_attends():
  assert latent_transformers_after(1, 8, 'interleaved') == [8]
  assert latent_transformers_after(2, 8, 'interleaved') == [4, 4]
  assert latent_transformers_after(4, 8, 'interleaved') == [2, 2, 2, 2]
  assert latent_transformers_after(8, 8, 'interleaved') == [1] * 8
  assert latent_transformers_after(4, 8, 'at_start') == [0, 0, 0, 8]
  assert latent_transformers_after(12, 0, 'interleaved') == [0] * 12


def program_for(platform, **settings):
  """Traces a model with heads of 128 channels for a platform, as text."""
  data = {'image': jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)}
  model = build(
    single,
    num_latents=8,
    latent_channels=128,
    self_attend_heads=1,
    mesh=reference.mesh_of(platform),
    **settings,
  )
  with targets.with_cudnn():
    params = jax.eval_shape(model.init, jax.random.key(0), data)
    return str(jax.make_jaxpr(model.apply)(params, None, data))


@pytest.mark.parametrize(
  ('platform', 'kernels'),
  [
    ('cpu', set()),
    ('gpu', {'cross_attention_forward'}),
    ('tpu', {'cross_attention_forward', 'self_attention_forward'}),
  ],
)
def test_kernels_are_of_the_mesh_and_can_be_switched_off(platform, kernels):
  program = program_for(platform)
  assert set(re.findall(r'name=(\w+_attention_\w+)', program)) == kernels
  assert 'pallas_call' not in program_for(platform, attention_kernel=False)


@pytest.mark.parametrize(
  ('platform', 'name', 'call'),
  [
    ('gpu', 'cudnn', 'dot_product_attention_fwd'),
    ('tpu', 'mosaic', 'self_attention_forward'),
  ],
)
def test_self_attention_is_chosen_by_name_or_stays_plain(platform, name, call):
  settings = {'attention_kernel': False, 'compute_dtype': 'bfloat16'}
  program = functools.partial(program_for, platform, **settings)
  assert call in program(self_attention=name)
  assert program(self_attention='plain') == program()
  assert call not in program()
  assert call not in program_for(platform, self_attention='plain')
  with pytest.raises(ValueError, match=f"self_attention='{name}' needs"):
    program_for('cpu', self_attention=name)
