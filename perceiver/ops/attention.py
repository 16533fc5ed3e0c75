"""Attention and layer norm as pure functions.

Glossary of shapes:
- B: batch; N: queries; M: keys; H: heads; F: channels per head.
"""

import functools
import math

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # Layer norm's, as in Haiku; the paper does not say.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def broadcast_channels(vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Broadcasts [C] to [..., C]; on TPUs and GPUs a product sums its gradient.

  XLA's own sums over all axes but the last take several times as long there.
  """
  return jnp.broadcast_to(
    vector.reshape((1,) * (len(shape) - 1) + (-1,)), shape
  )


def _broadcast_channels_forward(vector, shape):
  return broadcast_channels(vector, shape), None


def _broadcast_channels_backward(shape, _, gradient):
  rows = gradient.reshape(-1, shape[-1])
  total = jax.lax.platform_dependent(
    rows, cpu=lambda x: jnp.sum(x, axis=0), default=_sum_by_product
  )
  return (total,)


def _sum_by_product(rows):
  """Sums [R, C] to [C]."""
  # XLA would rewrite a product with a single row of ones as that slow sum.
  total = jnp.matmul(
    jnp.ones((8, rows.shape[0]), rows.dtype),
    rows,
    precision='highest' if rows.dtype == jnp.float32 else None,
  )
  return total[0]


broadcast_channels.defvjp(
  _broadcast_channels_forward, _broadcast_channels_backward
)


@jax.custom_vjp
def _product(x: jax.Array, w: jax.Array) -> jax.Array:
  """Multiplies [..., C] by [C, D]."""
  return x @ w


def _product_forward(x, w):
  return x @ w, (x, w)


def _product_backward(kept, gradient):
  x, w = kept
  w_grad = jax.lax.platform_dependent(
    x, gradient, cpu=_weight_gradient_on_cpu, default=_sum_of_outer_products
  )
  return gradient @ w.T, w_grad


def _sum_of_outer_products(x, y):
  """Multiplies [..., C] and [..., D] to [C, D]."""
  axes = tuple(range(x.ndim - 1))
  return jnp.tensordot(x, y, (axes, axes))


def _weight_gradient_on_cpu(x, y):
  # Many rows of few channels are faster as `_transposed_first`; the others are
  # not, because XLA computes x within the transpose, five times as slowly.
  if x.size > x.shape[-1] ** 2:
    return _transposed_first(x, y)
  return _sum_of_outer_products(x, y)


def _transposed_first(x, y):
  # Barriers keep the transpose out of the product.
  barrier = jax.lax.optimization_barrier
  columns = barrier(barrier(x.reshape(-1, x.shape[-1])).T)
  return columns @ y.reshape(-1, y.shape[-1])


_product.defvjp(_product_forward, _product_backward)


def linear(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
  """Applies a linear layer: [..., C] times w [C, D], plus b [D]."""
  y = _product(x, w)
  return y + broadcast_channels(b, y.shape)


def layer_norm(x: jax.Array, scale: jax.Array, offset: jax.Array) -> jax.Array:
  """Applies layer norm over the last axis, in float32.

  Args:
    x: [..., C].
    scale: [C].
    offset: [C].

  Returns:
    [..., C], in x's dtype.
  """
  y = normalize(x) * broadcast_channels(scale, x.shape) + broadcast_channels(
    offset, x.shape
  )
  return y.astype(x.dtype)


def normalize(x: jax.Array) -> jax.Array:
  """Returns x with zero mean and unit variance over the last axis, float32."""
  return _normalize(x.astype(jnp.float32))


@jax.custom_vjp
def _normalize(x: jax.Array) -> jax.Array:
  return _normalize_forward(x)[0]


def _normalize_forward(x):
  centred = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  scale = jax.lax.rsqrt(variance + EPSILON)
  y = centred * scale
  return y, (y, scale)


def _normalize_backward(kept, gradient):
  y, scale = kept
  mean = jnp.mean(gradient, axis=-1, keepdims=True)
  slope = dot(gradient, y) / y.shape[-1]
  return (scale * (gradient - mean - y * slope),)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
  """Multiplies [..., C] by [..., C] to [..., 1], in float32."""
  x, y = x.astype(jnp.float32), y.astype(jnp.float32)
  # On a CPU, XLA's sums of products (jax 0.10) take many times as long.
  total = jax.lax.platform_dependent(
    x,
    y,
    cpu=lambda x, y: jnp.einsum('...c,...c->...', x, y),
    default=lambda x, y: jnp.sum(x * y, axis=-1),
  )
  return total[..., None]


def masked_softmax(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
  """Applies softmax over the last axis, to elements that exist.

  Args:
    logits: [B, H, N, M] float32.
    mask: [B, M] bool, True where an element exists, or None.

  Returns:
    [B, H, N, M] weights; exactly 0 at masked elements, so all 0 for an example
    without elements.
  """
  if mask is None:
    return jax.nn.softmax(logits, axis=-1)
  mask = mask[:, None, None, :]  # [B, 1, 1, M]
  # A finite floor instead of -inf: an example without elements then has no NaN,
  # and neither has its gradient.
  logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
  return jnp.where(mask, jax.nn.softmax(logits, axis=-1), 0.0)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array | None = None,
) -> jax.Array:
  """Scaled dot-product attention.

  Logits and softmax are in float32, whatever the inputs' dtype.

  Args:
    query: [B, N, H, F].
    key: [B, M, H, F].
    value: [B, M, H, F].
    mask: [B, M] bool, True where an element exists, or None.

  Returns:
    The attended values [B, N, H, F], in the inputs' dtype.
  """
  logits = jnp.einsum(
    'bnhf,bmhf->bhnm', query, key, preferred_element_type=jnp.float32
  )
  logits = logits / jnp.sqrt(jnp.float32(query.shape[-1]))
  weights = masked_softmax(logits, mask).astype(value.dtype)  # [B, H, N, M]
  return jnp.einsum('bhnm,bmhf->bnhf', weights, value)


@jax.custom_vjp
def self_attend(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """Computes `attend` without a mask, and keeps no weights (N x M).

  As in FlashAttention-2 (Dao, 2023, section 3.1), the backward pass computes
  the weights again from the logarithm of each query's total, and the mean of
  their gradients from the attended values. It sums nothing over N x M again.

  Args:
    query: [B, N, H, F].
    key: [B, M, H, F].
    value: [B, M, H, F].

  Returns:
    [B, N, H F] attended values, with heads side by side, in the inputs' dtype.
  """
  return _self_attend_forward(query, key, value)[0]


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
  """Multiplies [B, H, N, F] and [B, H, M, F] to [B, H, N, M] float32."""
  return jnp.einsum('bhnf,bhmf->bhnm', x, y, preferred_element_type=jnp.float32)


def _logits(query: jax.Array, key: jax.Array) -> jax.Array:
  return _products(query, key) / math.sqrt(query.shape[-1])


def _head_major(x: jax.Array) -> jax.Array:
  """Transposes [B, ., H, F] to [B, H, ., F], and back."""
  return x.swapaxes(1, 2)


def _self_attend_forward(query, key, value):
  query, key, value = map(_head_major, (query, key, value))
  logits = _logits(query, key)
  peak = logits.max(axis=-1, keepdims=True)
  weights = jnp.exp(logits - peak)
  total = weights.sum(axis=-1, keepdims=True)
  out = jnp.einsum('bhnm,bhmf->bhnf', weights.astype(value.dtype), value)
  out = _head_major((out / total).astype(value.dtype))  # [B, N, H, F]
  # The next layer's backward pass keeps its input: this very array, not a copy
  # in another shape.
  out = out.reshape(*out.shape[:2], math.prod(out.shape[2:]))
  log_total = peak + jnp.log(total)  # [B, H, N, 1]
  return out, (query, key, value, out, log_total)


def _self_attend_backward(kept, out_grad):
  query, key, value, out, log_total = kept
  dtype = query.dtype
  _, num_heads, _, width = query.shape
  out, out_grad = (
    _head_major(x.reshape(*x.shape[:2], num_heads, width))
    for x in (out, out_grad)
  )
  # Without the barrier, the compiler would keep the forward pass's logits.
  logits = _logits(*jax.lax.optimization_barrier((query, key)))
  weights = jnp.exp(logits - log_total)
  weight_grad = _products(out_grad, value)
  mean = dot(out_grad, out)
  slopes = weights * (weight_grad - mean) / math.sqrt(query.shape[-1])
  slopes, weights = slopes.astype(dtype), weights.astype(dtype)
  query_grad = jnp.einsum('bhnm,bhmf->bhnf', slopes, key)
  # On a CPU it is faster to transpose the small operand than the weights.
  key_grad, value_grad = (
    jnp.einsum('bhfn,bhnm->bhfm', x.swapaxes(2, 3), w).swapaxes(2, 3)
    for x, w in ((query, slopes), (out_grad, weights))
  )
  return tuple(map(_head_major, (query_grad, key_grad, value_grad)))


self_attend.defvjp(_self_attend_forward, _self_attend_backward)
