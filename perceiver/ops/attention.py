"""Attention and layer norm as pure functions.

Glossary of shapes:
- B: batch; N: queries; M: keys; H: heads; F: channels per head.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # Of layer norms, as in Haiku; the paper does not say.


def layer_norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
  """Layer norm over the last axis, in float32; returned in x's dtype.

  Args:
    x: [..., C].
    scale: [C].
    offset: [C].

  Returns:
    [..., C].
  """
  shape = (1,) * (x.ndim - 1) + (-1,)
  y = normalize(x) * scale.reshape(shape) + offset.reshape(shape)
  return y.astype(x.dtype)


def normalize(x: jax.Array) -> jax.Array:
  """Zero mean and unit variance over the last axis, float32."""
  x = x.astype(jnp.float32)
  centred = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + EPSILON)


def masked_softmax(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
  """Softmax over the last axis, over the elements that exist.

  Args:
    logits: [B, H, N, M] float32.
    mask: [B, M] bool, True where an element exists, or None.

  Returns:
    [B, H, N, M] weights; exactly 0 at masked elements, so all 0 for an example
    that has no element at all.
  """
  if mask is None:
    return jax.nn.softmax(logits, axis=-1)
  mask = mask[:, None, None, :]  # [B, 1, 1, M]
  # A finite floor instead of -inf: an empty row then has no NaN, nor has its
  # gradient.
  logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
  return jnp.where(mask, jax.nn.softmax(logits, axis=-1), 0.0)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Scaled dot-product attention.

  Logits and softmax are in float32, whatever the inputs' dtype.

  Args:
    query: [B, N, H, F].
    key: [B, M, H, F].
    value: [B, M, H, F].
    mask: [B, M] bool, True where an element exists, or None.

  Returns:
    The attended values [B, N, H, F] in the inputs' dtype, and the logits
    [B, H, N, M] before the mask and the softmax, float32.
  """
  logits = jnp.einsum(
    'bnhf,bmhf->bhnm', query, key, preferred_element_type=jnp.float32
  )
  logits = logits / jnp.sqrt(jnp.float32(query.shape[-1]))
  weights = masked_softmax(logits, mask).astype(value.dtype)  # [B, H, N, M]
  return jnp.einsum('bhnm,bmhf->bnhf', weights, value), logits
