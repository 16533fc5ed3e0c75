"""Self-attention as a TPU kernel (Pallas, Mosaic), for small N.

A program takes one example and one head. Queries, keys and values keep the
layout of the linear layers, with heads side by side in the channels, so nothing
is copied. Logits and weights are float32 and never leave the chip's vector
memory; the backward pass computes them again.

Glossary of shapes:
- B: batch; N: queries and keys; H: heads; F: channels per head.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

DTYPES = ('float32', 'bfloat16')
MAX_SIZE = 640  # N: six arrays N x N in float32 fill most of 16 MB.
NEEDS = (
  'a TPU v4 or later, 8, 16, … 640 latents, and heads of 128, 256, … channels'
)


def suits(size: int, num_channels: int, num_heads: int) -> bool:
  """Tells whether the kernel takes N queries: heads must fill registers."""
  width = num_channels // num_heads
  return size <= MAX_SIZE and size % 8 == 0 and width % 128 == 0


def _dot(x: jax.Array, y: jax.Array, contract: tuple[int, int]) -> jax.Array:
  """Multiplies with a float32 result; float32 operands keep their precision."""
  return jax.lax.dot_general(
    x,
    y,
    ((contract[:1], contract[1:]), ((), ())),
    precision='highest' if x.dtype == jnp.float32 else 'default',
    preferred_element_type=jnp.float32,
  )


def _weights(query: jax.Array, key: jax.Array) -> jax.Array:
  """Returns softmax weights over the keys, [keys, queries], float32.

  In this layout, a query's peak and total are sums over registers, not inside
  them.
  """
  logits = _dot(key, query, (1, 1)) * query.shape[-1] ** -0.5
  weights = jnp.exp(logits - logits.max(axis=0, keepdims=True))
  return weights * (1.0 / weights.sum(axis=0, keepdims=True))


def _forward_kernel(query, key, value, out):
  weights = _weights(query[0], key[0]).astype(value.dtype)
  out[0] = _dot(weights, value[0], (0, 0)).astype(out.dtype)


def _backward_kernel(query, key, value, out_grad, *gradients):
  query_grad, key_grad, value_grad = gradients
  dtype = query.dtype
  weights = _weights(query[0], key[0])
  weight_grad = _dot(value[0], out_grad[0], (1, 1))  # [keys, queries]
  mean = (weights * weight_grad).sum(axis=0, keepdims=True)
  slopes = weights * (weight_grad - mean) * query.shape[-1] ** -0.5
  slopes = slopes.astype(dtype)
  query_grad[0] = _dot(slopes, key[0], (0, 0)).astype(dtype)
  key_grad[0] = _dot(slopes, query[0], (1, 0)).astype(dtype)
  value_grad[0] = _dot(weights.astype(dtype), out_grad[0], (1, 0)).astype(dtype)


def _call(kernel, arrays, num_outputs: int, num_heads: int, interpret: bool):
  batch, size, num_channels = arrays[0].shape
  head = pl.BlockSpec(
    (1, size, num_channels // num_heads), lambda b, h: (b, 0, h)
  )
  return pl.pallas_call(
    kernel,
    grid=(batch, num_heads),
    in_specs=[head] * len(arrays),
    out_specs=[head] * num_outputs,
    out_shape=[
      jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
      for _ in range(num_outputs)
    ],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'parallel')
    ),
    interpret=interpret,
    # How often the compiled body runs, for `scripts.plan`.
    metadata={'steps': str(batch * num_heads)},
    name='self_attention' + kernel.__name__.removesuffix('_kernel'),
  )(*arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  num_heads: int,
  interpret: bool = False,
) -> jax.Array:
  """Scaled dot-product attention, with heads side by side in the channels.

  Args:
    query: [B, N, H F], of a size that `suits` allows.
    key: [B, N, H F].
    value: [B, N, H F].
    num_heads: H.
    interpret: whether to run in Pallas's interpreter, for tests.

  Returns:
    [B, N, H F] attended values, in the inputs' dtype.
  """
  return _attend_forward(query, key, value, num_heads, interpret)[0]


def _attend_forward(query, key, value, num_heads, interpret):
  arrays = (query, key, value)
  (out,) = _call(_forward_kernel, arrays, 1, num_heads, interpret)
  return out, arrays


def _attend_backward(num_heads, interpret, arrays, out_grad):
  return tuple(
    _call(_backward_kernel, (*arrays, out_grad), 3, num_heads, interpret)
  )


attend.defvjp(_attend_forward, _attend_backward)
