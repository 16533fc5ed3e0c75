"""All forms of attention treat numbers of every dtype the same."""

import contextlib
import functools
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver
from perceiver import attention_maps, baselines
from perceiver.ops import cross_attention
from tests import quick
from tests.perceiver import reference
from tests.perceiver.conftest import grid_segment
from tests.perceiver.test_baselines import MODELS
from tests.perceiver.test_cross_attention import (
  attend,
  GPU_KERNEL,
  random_parameters,
  TPU_KERNEL,
  value_and_gradients,
)

FLOATS = ('float16', 'bfloat16', 'float32', 'float64')
DTYPES = ('bool', 'uint8', 'int32', *FLOATS)
ROUNDOFF = 2.0**-24  # float32's.


def precision(*dtypes):
  """Enables float64 in JAX if a dtype is 64 bits wide."""
  if 'float64' in map(str, dtypes):
    return jax.enable_x64(True)
  return contextlib.nullcontext()


def numbers(rng, shape, dtype):
  """Makes pixels as stored; floats have a fraction."""
  if dtype == 'bool':
    return rng.uniform(size=shape) < 0.5
  if dtype in FLOATS:
    return rng.normal(size=shape).astype(jnp.dtype(dtype))
  return rng.integers(0, 4, shape).astype(dtype)


def byte_array(dtype):
  """NumPy's: a masked grid with content of a dtype, and a point cloud.

  The other parts are of other dtypes: over all `dtype`, each has had each.
  """
  i = DTYPES.index(dtype)
  of_kind = lambda kinds, shift: kinds[(i + shift) % len(kinds)]
  rng = np.random.default_rng(i)
  batch, channels = 1 + i % 2, i % 3
  tables = tuple(
    x.astype(jnp.dtype(of_kind(FLOATS, 0)))
    for x in perceiver.fourier_axes((3, 4), 2, 8)
  )
  mask = rng.uniform(size=(batch, 3, 4)) < 0.7
  mask[:, 0] = True  # The reference needs an element in each example.
  count = 1 if i < 3 else batch  # Positions shared, or for each example.
  return perceiver.ByteArray(
    (
      perceiver.Segment(
        numbers(rng, (batch, 3, 4, 2), dtype),
        tables,  # 10 channels.
        numbers(rng, (1,), of_kind(DTYPES, 1)),
        mask,
      ),
      perceiver.Segment(
        numbers(rng, (batch, 5, channels), of_kind(DTYPES, 3)),
        numbers(rng, (count, 5, 4), of_kind(FLOATS, 1)),
        numbers(rng, (9 - channels,), of_kind(DTYPES, 5)),
      ),
    )
  )


def in_float64(inputs):
  """Makes [B, M, C] and the mask [B, M] without the library."""
  arrays, masks = [], []
  for segment in inputs.segments:
    leading = segment.content.shape[:-1]
    mask = np.ones(leading, bool) if segment.mask is None else segment.mask
    positions = segment.positions
    if isinstance(positions, tuple):
      axes = zip(positions, np.indices(leading[1:]), strict=True)
      parts = [table.astype(np.float64)[i] for table, i in axes]
      positions = np.concatenate(parts, axis=-1)
    content = segment.content.astype(np.float64) * mask[..., None]
    parts = [
      np.broadcast_to(x.astype(np.float64), (*leading, x.shape[-1]))
      for x in (content, positions, segment.encoding)
    ]
    array = np.concatenate(parts, axis=-1)
    arrays.append(array.reshape(leading[0], -1, array.shape[-1]))
    masks.append(mask.reshape(leading[0], -1))
  return np.concatenate(arrays, axis=1), np.concatenate(masks, axis=1)


def expected_and_tolerance(query, inputs, parameters):
  """The attended values [B, N, H F], and the most that rounding moves them.

  A sum of n terms is off by at most n ROUNDOFF times the sum of their
  magnitudes. With μ and ρ of the layer norm, the forms add up ρ x and ρ μ for
  the C channels, then M weights; an error of the logits is one of the weights,
  relative to them, twice: above and below the fraction of a softmax.
  """
  p = {k: np.asarray(x, np.float64) for k, x in parameters._asdict().items()}
  heads, width = query.shape[2:]
  query = np.asarray(query, np.float64).reshape(*query.shape[:2], -1)
  array, masks = in_float64(inputs)
  mean = array.mean(axis=-1, keepdims=True)
  scale = 1 / np.sqrt(array.var(axis=-1, keepdims=True) + 1e-5)
  normed = scale * (array - mean) * p['scale'] + p['offset']
  keys = normed @ p['key_w'] + p['key_b']
  values = normed @ p['value_w'] + p['value_b']
  out = [
    reference.attention(*x, heads=heads, mask=mask)
    for *x, mask in zip(query, keys, values, masks, strict=True)
  ]
  sizes = scale * (np.abs(array) + np.abs(mean)) * np.abs(p['scale'])
  sizes += np.abs(p['offset'])
  value_size, key_size = (
    np.max(sizes @ np.abs(p[f'{name}_w']) + np.abs(p[f'{name}_b']))
    for name in ('value', 'key')
  )
  logit_size = math.sqrt(width) * np.abs(query).max() * key_size
  num_terms = sum(array.shape[1:]) + width
  return np.stack(out), ROUNDOFF * num_terms * value_size * (1 + 2 * logit_size)


@pytest.mark.parametrize('dtype', DTYPES)
def test_the_forms_are_right_for_every_dtype(dtype):
  inputs = byte_array(dtype)
  rng = np.random.default_rng(0)
  query = 0.3 * rng.normal(size=(inputs.batch_size, 3, 2, 2))
  query = query.astype(np.float32)
  parameters = random_parameters(rng, inputs.num_channels, 4)
  expected, tolerance = expected_and_tolerance(query, inputs, parameters)
  with precision(*(x.dtype for x in jax.tree.leaves(inputs))):
    given_inputs = jax.tree.map(jnp.asarray, inputs)
    given_inputs.validate()

    @jax.jit
    def run(query, inputs, parameters):
      attended = [
        attend(query, inputs, parameters, form)
        for form in cross_attention.FORMS
      ]
      return inputs.to_array(), attended

    array, out = run(query, given_inputs, parameters)
  assert array.dtype == np.float32
  np.testing.assert_array_equal(array, in_float64(inputs)[0].astype('f'))
  for x in out:
    assert x.dtype == np.float32
    error = np.abs(np.asarray(x).reshape(expected.shape) - expected).max()
    assert error <= tolerance


@pytest.mark.parametrize(
  'dtype', quick.only(['bfloat16'], ['bfloat16', 'float64'])
)
@pytest.mark.parametrize('kernel', [GPU_KERNEL, TPU_KERNEL])
def test_kernels_and_gradients_take_every_float(dtype, kernel):
  rng = np.random.default_rng(0)
  query = rng.normal(size=(1, 3, 1, 2)).astype(np.float32)
  parameters = random_parameters(rng, 10, 2)
  with precision(dtype):
    content = numbers(rng, (1, 3, 4, 2), dtype)
    axes = perceiver.fourier_axes((3,), 2)[0], numbers(rng, (4, 3), dtype)
    segment = jax.tree.map(jnp.asarray, perceiver.Segment(content, axes))
    inputs = perceiver.ByteArray((segment,))
    run = functools.partial(value_and_gradients, query, inputs, parameters)
    expected, gradients = run(form='plain')
    out, others = run(form='factored', kernel=kernel)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
  # Of the query, then of the content, in its own dtype.
  assert [x.dtype.name for x in others[:2]] == ['float32', dtype]
  # The TPU kernel multiplies pairs of bfloat16, so the last 16 bits are lost.
  roundoff = max(float(jnp.finfo(dtype).eps), 2**-16)
  for one, other in zip(others[:2], gradients[:2], strict=True):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert np.abs(one - other).max() <= 2 * roundoff * np.abs(other).max()


def pixels(dtype):
  content = np.random.default_rng(0).integers(0, 2, (2, 8, 8, 1))
  return perceiver.ByteArray((grid_segment(jnp.asarray(content, dtype), 2),))


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize(
  ('dtype', 'compute_dtype'),
  [('uint8', 'float32'), ('float64', 'float32'), ('float32', 'bfloat16')],
)
def test_every_model_is_of_float32(name, dtype, compute_dtype):
  build = functools.partial(MODELS[name], compute_dtype=compute_dtype)
  model = hk.transform_with_state(lambda x: build()(x, is_training=True))
  with precision(dtype):
    state = jax.eval_shape(model.init, jax.random.key(0), pixels(dtype))
    logits, new = jax.eval_shape(model.apply, *state, None, pixels(dtype))
  assert logits.dtype == np.float32
  dtypes = {x.dtype.name for x in jax.tree.leaves((state, new))}
  assert dtypes <= {'float32', 'int32'}


def test_baselines_see_integers_as_the_same_floats():
  np.testing.assert_array_equal(
    baselines.image(pixels('uint8')), baselines.image(pixels('float32'))
  )


def test_attention_maps_see_integers_as_the_same_floats():
  rng = np.random.default_rng(0)
  queries = cross_attention.input_queries(
    jnp.asarray(rng.normal(size=(2, 3, 1, 4)), jnp.float32),
    random_parameters(rng, pixels('uint8').num_channels, 4),
  )
  np.testing.assert_array_equal(
    attention_maps.logits(queries, pixels('uint8')),
    attention_maps.logits(queries, pixels('float32')),
  )


FLOAT_TABLES = perceiver.fourier_axes((4, 5), 2)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'content': np.zeros((1, 4, 5, 1), 'c8')}, 'The content is of complex64'),
    ({'content': np.full((1, 4, 5, 1), 'a')}, 'content is of <U1; expected'),
    ({'content': [[[0.0]]]}, 'The content must be of arrays, not of list'),
    (
      {'content': jax.random.split(jax.random.key(0), (1, 4, 5, 1))},
      r'The content is of key<',
    ),
    (
      {'positions': (np.zeros((4, 2), object), FLOAT_TABLES[1])},
      'The positions is of object',
    ),
    ({'encoding': np.zeros(2, 'c16')}, 'The encoding is of complex128'),
    ({'mask': np.ones((1, 4, 5), 'f')}, 'mask is of float32; expected bool'),
    ({'mask': [[True]]}, 'The mask must be of arrays, not of list'),
  ],
)
def test_other_dtypes_are_refused_by_name(change, message):
  parts = {'content': np.zeros((1, 4, 5, 1)), 'positions': FLOAT_TABLES}
  inputs = perceiver.ByteArray((perceiver.Segment(**parts | change),))
  with pytest.raises(TypeError, match=message):
    inputs.validate()
  if 'mask' not in change:
    with pytest.raises(TypeError, match=message):
      inputs.to_array()
