"""Byte arrays and position features."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver
from perceiver import attention_maps
from perceiver.ops import cross_attention
from tests import quick
from tests.perceiver import reference
from tests.perceiver.conftest import grid_segment
from tests.perceiver.test_baselines import MODELS


def test_fourier_axes_of_any_number_of_axes():
  for shape in ((5,), (4, 6), (2, 3, 4)):
    content = jnp.zeros((2, *shape, 0))
    positions = perceiver.fourier_axes(shape, 4, 8)
    array = perceiver.Segment(content, positions).to_array()
    expected = reference.fourier(reference.grid(*shape), 4, 8)
    expected = expected.reshape(1, -1, expected.shape[-1])
    assert array.shape == (2, expected.shape[1], len(shape) * 9)
    np.testing.assert_allclose(array[:1], expected, atol=1e-6)


def test_fourier_points_agree_with_a_grid():
  shape = (3, 4)
  points = reference.grid(*shape).astype(np.float32)
  features = perceiver.fourier_points(jnp.asarray(points), 5, 10)
  expected = reference.fourier(points, 5, 10)
  np.testing.assert_allclose(features, expected, atol=1e-5)


def test_each_axis_has_its_own_resolution():
  tables = perceiver.fourier_axes((4, 6), 3)
  own = perceiver.fourier_axes((4, 6), 3, (4, 6))
  same = perceiver.fourier_axes((4, 6), 3, 6)
  np.testing.assert_array_equal(tables[0], own[0])
  np.testing.assert_array_equal(own[1], same[1])
  assert np.abs(own[0] - same[0]).max() > 0.1


def test_impossible_positions():
  with pytest.raises(ValueError, match='num_bands >= 1'):
    perceiver.fourier_axes((4,), 0, 8)
  with pytest.raises(ValueError, match='one value for each axis'):
    perceiver.fourier_axes((4, 4), 2, (8,))


def test_learned_positions_have_scale_one():
  learned = hk.transform(
    lambda: perceiver.LearnedPositions((20, 30), num_channels=16)()
  )
  params = learned.init(jax.random.key(0))
  table = learned.apply(params, None)
  assert table.shape == (1, 20, 30, 16)
  assert np.abs(table).max() <= 2
  np.testing.assert_allclose(table.std(), 0.8796, rtol=0.02)


def test_permuting_moves_elements_with_all_they_have():
  key = jax.random.key(0)
  grid, order = (3, 4), np.random.default_rng(0).permutation(12)
  segment = grid_segment(
    jax.random.normal(key, (2, *grid, 5)),
    2,
    encoding=jnp.ones(3),
    mask=jnp.arange(24).reshape(2, *grid) % 5 != 0,
  )
  permuted = segment.permute(order)
  permuted.validate()
  np.testing.assert_array_equal(
    permuted.to_array(), segment.to_array()[:, order]
  )
  np.testing.assert_array_equal(
    permuted.mask.reshape(2, -1), segment.mask.reshape(2, -1)[:, order]
  )
  back = permuted.permute(np.argsort(order))
  np.testing.assert_array_equal(back.to_array(), segment.to_array())


SEGMENT = grid_segment(jnp.zeros((2, 4, 5, 3)), 2)


changed = functools.partial(dataclasses.replace, SEGMENT)
of_shapes = lambda *shapes: perceiver.Segment(*map(jnp.zeros, shapes))


@pytest.mark.parametrize(
  ('segments', 'message'),
  [
    ((), 'at least one segment'),
    ((perceiver.Segment(jnp.zeros((2, 3)), ()),), r'must be \[B, \*grid'),
    (
      (changed(positions=SEGMENT.positions[::-1]),),
      r'tables for a grid \(5, 4\), content on \(4, 5\)',
    ),
    (
      (changed(positions=jnp.zeros((3, 4, 5, 2))),),
      r'\(3, 4, 5, 2\) do not fit',
    ),
    ((changed(mask=jnp.ones((2, 4), bool)),), r'Mask \(2, 4\) does not fit'),
    (
      (SEGMENT, of_shapes((2, 7, 3), (1, 7, 4))),
      r'widths \[13, 7\]: add modality encodings',
    ),
    (
      (SEGMENT, of_shapes((1, 7, 3), (1, 7, 10))),
      r'batch sizes \[2, 1\]',
    ),
  ],
)
def test_byte_arrays_that_do_not_fit(segments, message):
  with pytest.raises(ValueError, match=message):
    perceiver.ByteArray(segments).validate()


PERCEIVERS = {
  form: functools.partial(MODELS['perceiver'], attention=form)
  for form in ('auto', *cross_attention.FORMS)
}
QUERY = {'query': functools.partial(MODELS['perceiver'], head='query')}
ALL_MODELS = MODELS | PERCEIVERS | QUERY


@pytest.mark.parametrize(
  'name', quick.only(['factored', 'query', 'resnet', 'vit'], ALL_MODELS)
)
def test_an_empty_batch_has_empty_logits(name):
  function = hk.transform_with_state(lambda *args: ALL_MODELS[name]()(*args))

  def image(size):
    mask = jnp.ones((size, 4, 4), bool)
    segment = grid_segment(jnp.zeros((size, 4, 4, 1)), 2, mask=mask)
    return perceiver.ByteArray((segment.permute(np.arange(16)),))

  init = lambda x: function.init(jax.random.key(0), x, True)
  zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
  params, state = zeros(jax.eval_shape(init, image(1)))
  apply = lambda params: function.apply(params, state, None, image(0))[0]
  assert jax.eval_shape(apply, params).shape == (0, 5)
  gradient = jax.grad(lambda params: apply(params).sum())
  shapes = jax.tree.map(jnp.shape, jax.eval_shape(gradient, params))
  assert shapes == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize(
  ('inputs', 'message'),
  [
    (
      jnp.zeros((2, 4, 4, 3)),
      r'got ArrayImpl of shape \(2, 4, 4, 3\): make perceiver.ByteArray',
    ),
    (np.zeros((2, 4, 4, 3)), r'got ndarray of shape .* perceiver.fourier_axes'),
    ([[1.0]], 'Expected a perceiver.ByteArray, got list: make'),
    (SEGMENT, r'got Segment: make perceiver.ByteArray\(\(segment,\)\)\.'),
    (
      perceiver.ByteArray(SEGMENT),
      'a tuple of perceiver.Segment.* got Segment',
    ),
    (perceiver.ByteArray((np.zeros(3),)), 'perceiver.Segment.* got ndarray'),
  ],
)
def test_what_is_no_byte_array_is_told_how_to_become_one(inputs, message):
  for model in ALL_MODELS.values():
    function = hk.transform_with_state(lambda x, model=model: model()(x))
    with pytest.raises(TypeError, match=message):
      function.init(jax.random.key(0), inputs)
  queries = cross_attention.InputQueries(
    jnp.zeros((2, 1, 1, 13)), jnp.zeros((2, 1, 1))
  )
  for function in (attention_maps.logits, attention_maps.mean_weights):
    with pytest.raises(TypeError, match=message):
      function(queries, inputs)
  with pytest.raises(TypeError, match=message):
    attention_maps.weights(jnp.zeros((2, 1, 1, 20)), inputs)
  with pytest.raises(TypeError, match=r'perceiver.Segment.* got ndarray'):
    hk.transform(
      lambda: perceiver.ModalityEncoding()({'image': np.zeros((2, 3, 4))})
    ).init(jax.random.key(0))
