"""Self-attention by cuDNN's fused attention, for GPUs in bfloat16.

Neither the forward nor the backward pass writes an array N x N. Queries, keys
and values keep the layout of the linear layers, with heads side by side in the
channels, so nothing is copied.

Glossary of shapes:
- B: batch; N: queries and keys; H: heads; F: channels per head.
"""

from typing import Literal

import jax

DTYPES = ('bfloat16',)
NEEDS = 'an NVIDIA GPU of Ampere or later, and heads of 8, 16, … 128 channels'


def suits(size: int, num_channels: int, num_heads: int) -> bool:
  """Tells whether cuDNN takes these heads, for any number of queries."""
  # JAX allows wider heads, but only from Hopper on.
  width = num_channels // num_heads
  return size > 0 and width <= 128 and width % 8 == 0


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  num_heads: int,
  implementation: Literal['cudnn', 'xla'] = 'cudnn',
) -> jax.Array:
  """Scaled dot-product attention, with heads side by side in the channels.

  Args:
    query: [B, N, H F] bfloat16, of a size that `suits` allows.
    key: [B, N, H F].
    value: [B, N, H F].
    num_heads: H.
    implementation: 'xla' to compute the same on any platform, for tests.

  Returns:
    [B, N, H F] attended values, in the inputs' dtype.

  Raises:
    RuntimeError: if cuDNN is not installed.
  """
  attended = jax.nn.dot_product_attention(
    *(x.reshape(*x.shape[:2], num_heads, -1) for x in (query, key, value)),
    implementation=implementation,
  )  # [B, N, H, F]
  return attended.reshape(query.shape)
