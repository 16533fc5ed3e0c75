"""Self-attention, in both forms, and its parts have correct gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver.ops import attention, self_attention_tpu


def plain(query, key, value, num_heads, attend=attention.attend):
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)
  return attend(split(query), split(key), split(value)).reshape(query.shape)


def arrays(query, key, value, num_heads):
  return plain(query, key, value, num_heads, attention.self_attend)


def kernel(query, key, value, num_heads):
  return self_attention_tpu.attend(query, key, value, num_heads, True)


@pytest.mark.parametrize(
  ('dtype', 'tolerance'),
  [
    (jnp.float32, 1e-6),
    # They round at different places; 2⁻⁸ is a bit of bfloat16.
    (jnp.bfloat16, 2**-7),
  ],
)
@pytest.mark.parametrize(
  ('form', 'size', 'num_channels', 'num_heads'),
  [
    (arrays, 7, 12, 3),
    (arrays, 24, 128, 2),
    (kernel, 8, 128, 1),
    (kernel, 24, 256, 2),
  ],
)
def test_every_form_is_attention(
  form, size, num_channels, num_heads, dtype, tolerance
):
  rng = np.random.default_rng(0)
  shape = (2, size, num_channels)
  if form is kernel:
    assert self_attention_tpu.suits(size, num_channels, num_heads)
  *qkv, cotangent = (jnp.asarray(rng.normal(size=shape), dtype) for _ in 'qkvc')

  @jax.jit
  def run(*qkv):
    out, transpose = jax.vjp(lambda *x: plain(*x, num_heads), *qkv)
    other, other_transpose = jax.vjp(lambda *x: form(*x, num_heads), *qkv)
    return (out, *transpose(cotangent)), (other, *other_transpose(cotangent))

  for expected, actual in zip(*run(*qkv), strict=True):
    assert actual.dtype == dtype
    expected, actual = (np.asarray(x, np.float64) for x in (expected, actual))
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error <= tolerance


def test_large_logits_overflow_nothing():
  query, key, value = (300.0 * jnp.ones((1, 4, 8)) for _ in 'qkv')
  out, transpose = jax.vjp(lambda *x: arrays(*x, 1), query, key, value)
  np.testing.assert_allclose(out, value, rtol=1e-6)
  assert all(jnp.isfinite(x).all() for x in transpose(out))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_a_linear_layer_has_the_gradients_of_its_product(dtype):
  rng = np.random.default_rng(0)
  x, w, b, cotangent = (
    jnp.asarray(rng.integers(-4, 5, size=shape), dtype)
    for shape in ((2, 7, 3), (3, 5), (5,), (2, 7, 5))
  )
  out, transpose = jax.vjp(lambda x, w, b: x @ w + b[None, None], x, w, b)
  other, other_transpose = jax.vjp(attention.linear, x, w, b)
  # Small integers, without rounding.
  jax.tree.map(
    np.testing.assert_array_equal,
    (out, *transpose(cotangent)),
    (other, *other_transpose(cotangent)),
  )
  np.testing.assert_array_equal(
    attention._sum_of_outer_products(x, cotangent),  # For other platforms.
    attention._transposed_first(x, cotangent),
  )


@pytest.mark.parametrize(
  ('dtype', 'tolerance'),
  [
    (jnp.float32, {'rtol': 1e-6, 'atol': 1e-4}),
    # A sum in bfloat16 would be off by half.
    (jnp.bfloat16, {'rtol': 2**-8}),
  ],
)
def test_gradients_of_broadcast_channels_are_summed_in_float32(
  dtype, tolerance
):
  vector, shape = jnp.arange(3.0, dtype=dtype), (2, 500, 3)
  rounded = jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)
  out, transpose = jax.vjp(
    lambda v: attention.broadcast_channels(v, shape), vector
  )
  np.testing.assert_array_equal(out, np.broadcast_to(vector, shape))
  (total,) = transpose(rounded)
  assert total.dtype == dtype
  total, rounded = (np.asarray(x, np.float64) for x in (total, rounded))
  np.testing.assert_allclose(total, rounded.sum(axis=(0, 1)), **tolerance)


@pytest.mark.parametrize(
  ('size', 'num_channels', 'num_heads'),
  [(512, 512, 8), (12, 128, 1), (1024, 1024, 8)],
)
def test_heads_that_fill_no_register_or_do_not_fit_are_left_to_others(
  size, num_channels, num_heads
):
  assert not self_attention_tpu.suits(size, num_channels, num_heads)
  assert self_attention_tpu.suits(512, 1024, 8)


def test_attended_values_are_kept_once():
  """Also the next layer's backward pass needs them."""

  def loss(x, w):
    def step(x, _):
      heads = x.reshape(*x.shape[:2], 2, 8)
      attended = attention.self_attend(heads, heads, heads)
      return attention.linear(attended, w, jnp.zeros(16)), None

    return jax.lax.scan(step, x, None, length=3)[0].sum()

  x, w = jnp.zeros((5, 7, 16)), jnp.zeros((16, 16))
  kept = jax.eval_shape(lambda: jax.vjp(loss, x, w)[1])
  sizes = [leaf.size for leaf in jax.tree.leaves(kept)]
  assert sizes.count(3 * x.size) == 4  # Queries, keys, values and these.
