"""Self-attention as a kernel, in Pallas's interpreter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver.ops import attention, self_attention_tpu


def plain(query, key, value, num_heads):
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)
  out, _ = attention.attend(split(query), split(key), split(value))
  return out.reshape(query.shape)


@pytest.mark.parametrize(
  ('dtype', 'tolerance'),
  [
    (jnp.float32, 1e-6),
    # Rounding at other places: 2⁻⁸ is a bit of bfloat16.
    (jnp.bfloat16, 2**-7),
  ],
)
@pytest.mark.parametrize(('size', 'num_heads'), [(8, 1), (24, 2)])
def test_the_tpu_kernel_is_attention(size, num_heads, dtype, tolerance):
  rng = np.random.default_rng(0)
  shape = (2, size, 128 * num_heads)
  assert self_attention_tpu.suits(size, 128 * num_heads, num_heads)
  *qkv, cotangent = (jnp.asarray(rng.normal(size=shape), dtype) for _ in 'qkvc')

  @jax.jit
  def run(*qkv):
    out, transpose = jax.vjp(lambda *x: plain(*x, num_heads), *qkv)
    other, other_transpose = jax.vjp(
      lambda *x: self_attention_tpu.attend(*x, num_heads, True), *qkv
    )
    return (out, *transpose(cotangent)), (other, *other_transpose(cotangent))

  for expected, actual in zip(*run(*qkv), strict=True):
    assert actual.dtype == dtype
    expected, actual = (np.asarray(x, np.float64) for x in (expected, actual))
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error <= tolerance


@pytest.mark.parametrize(
  ('size', 'num_channels', 'num_heads'),
  [(512, 512, 8), (12, 128, 1), (1024, 1024, 8)],
)
def test_heads_that_fill_no_register_or_do_not_fit_are_left_to_others(
  size, num_channels, num_heads
):
  assert not self_attention_tpu.suits(size, num_channels, num_heads)
