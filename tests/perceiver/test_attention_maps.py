"""Attention maps are the logits of the model's own attention, in any form."""

import functools
import itertools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver
from perceiver import attention_maps
from tests import quick
from tests.perceiver import reference
from tests.perceiver.conftest import B
from tests.perceiver.test_model import (
  byte_array_reference,
  fused,
  masked,
  parameters,
  points,
  single,
  SMALL,
)


def queries_of(inputs, **settings):
  def forward(data):
    byte_array = inputs(data)
    model = perceiver.Perceiver(**(SMALL | settings))
    return model.attention_queries(byte_array), byte_array

  return jax.jit(hk.transform(forward).apply)


@functools.cache
def two_heads(inputs):
  # A width that the heads divide, whatever the width of the input.
  settings = {'cross_attend_heads': 2, 'cross_attend_channels': 6}
  return settings, parameters(inputs, **settings)


@pytest.mark.parametrize(
  'form', quick.only(['auto'], ['auto', 'plain', 'no_kv', 'factored'])
)
@pytest.mark.parametrize('inputs', [fused, points])
def test_logits_are_queries_times_keys(data, inputs, form):
  settings, params = two_heads(inputs)
  apply = queries_of(inputs, attention=form, **settings)
  queries, byte_array = apply(params, None, data)
  assert len(queries) == SMALL['num_cross_attends']
  first = reference.under(params, 'perceiver/~/cross_attend_0')
  array, mask = byte_array_reference(inputs, params, data)
  exists = mask[1] > 0  # The reference does not clear masked elements.
  z = reference.under(params, 'perceiver')['perceiver']['latents']
  q = reference.linear(
    reference.layer_norm(z, first['latent_norm']), first['query']
  )
  k = reference.linear(
    reference.layer_norm(array[1], first['input_norm']), first['key']
  )
  for head in range(2):
    part = slice(3 * head, 3 * head + 3)
    expected = q[:, part] @ k[:, part].T / np.sqrt(3)
    logits = attention_maps.logits(queries[0], byte_array, [3, 1])[1, head]
    np.testing.assert_allclose(
      logits[:, exists], expected[[3, 1]][:, exists], rtol=1e-4, atol=1e-4
    )
  for earlier, later in itertools.pairwise(queries):
    assert np.abs(later.vectors - earlier.vectors).max() > 0.1


def test_weights_are_zero_where_nothing_is(data):
  settings, params = two_heads(masked)
  queries, byte_array = queries_of(masked, **settings)(params, None, data)
  logits = attention_maps.logits(queries[1], byte_array)
  weights = attention_maps.weights(logits, byte_array)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
  exists = data['mask'].reshape(B, -1)
  assert (weights.max((1, 2))[~exists] == 0).all()
  assert (weights.min((1, 2))[exists] > 0).all()


def test_the_mean_is_that_of_all_latents_and_heads(data):
  settings = {'cross_attend_heads': 2, 'cross_attend_channels': 6}
  settings |= {'num_latents': 37}  # Not a multiple of `TILE`.
  params = parameters(masked, **settings)
  queries, byte_array = queries_of(masked, **settings)(params, None, data)
  logits = attention_maps.logits(queries[2], byte_array)
  expected = attention_maps.weights(logits, byte_array).mean((1, 2))
  mean = jax.jit(attention_maps.mean_weights)(queries[2], byte_array)
  np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_maps_keep_no_logits_but_those_that_are_shown():
  apply = queries_of(single, num_latents=512, attention='factored')
  params = parameters(single, num_latents=512)
  data = {'image': jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)}

  def memory(function):
    def run(data):
      queries, byte_array = apply(params, None, data)
      return function(queries[1], byte_array)

    compiled = jax.jit(run).lower(data).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  shown = lambda q, x: attention_maps.logits(q, x, range(16))
  all_logits = 4 * 512 * 128 * 128
  assert memory(shown) < all_logits / 2
  assert memory(attention_maps.mean_weights) < all_logits / 2
  assert memory(attention_maps.logits) > all_logits


def test_maps_in_bfloat16_are_near(data):
  settings, params = two_heads(single)

  def logits(dtype):
    apply = queries_of(single, compute_dtype=dtype, **settings)
    queries, byte_array = apply(params, None, data)
    return attention_maps.logits(queries[1], byte_array)

  exact, rounded = logits('float32'), logits('bfloat16')
  assert rounded.dtype == jnp.float32
  error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
  assert 1e-5 < error < 0.05
