"""Attention maps: what each latent looks at, over the input (Figs. 3, 7 to 31).

A map is made from the queries of a cross-attend (`Perceiver.attention_queries`)
and the input. Whatever form the model attends in, only the requested logits are
computed.

Glossary of shapes:
- B: batch; N: latents; K: shown latents; M: input elements; H: heads.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from perceiver.inputs import ByteArray, check
from perceiver.ops import attention, cross_attention
from perceiver.ops.cross_attention import factored, InputQueries
from perceiver.ops.cross_attention.elements import from_channels

TILE = 16  # Latents that `mean_weights` processes at once.


def logits(
  queries: InputQueries, inputs: ByteArray, latents: Sequence[int] | None = None
) -> jax.Array:
  """Returns the logits before the softmax, which the paper's figures show.

  Args:
    queries: queries of one cross-attend.
    inputs: the byte array that the model was given.
    latents: indices of K latents; None: all.

  Returns:
    [B, H, K, M] float32, elements in the order of `inputs`.

  Raises:
    TypeError, ValueError: as `perceiver.Perceiver` for the same inputs.
  """
  if latents is not None:
    queries = jax.tree.map(lambda x: x[:, jnp.asarray(latents)], queries)
  return _logits(queries, _prepare(inputs))


def weights(logits: jax.Array, inputs: ByteArray) -> jax.Array:
  """Returns the masked softmax of logits [B, H, K, M]: the attention itself."""
  check(inputs)
  return attention.masked_softmax(logits, inputs.mask())


def mean_weights(queries: InputQueries, inputs: ByteArray) -> jax.Array:
  """Returns the attention's mean over all latents and heads, [B, M]."""
  prepared = _prepare(inputs)
  batch, count = queries.vectors.shape[:2]

  def add(total: jax.Array, latents: jax.Array) -> tuple[jax.Array, None]:
    some = jax.tree.map(lambda x: x[:, latents % count], queries)
    attended = weights(_logits(some, prepared), inputs)
    exists = (latents < count).reshape(1, 1, -1, 1)
    return total + jnp.sum(attended * exists, axis=(1, 2)), None

  tiles = jnp.arange(-(-count // TILE) * TILE).reshape(-1, TILE)
  zeros = jnp.zeros((batch, inputs.num_elements), jnp.float32)
  total, _ = jax.lax.scan(add, zeros, tiles)
  return total / (count * queries.vectors.shape[2])


def _logits(
  queries: InputQueries, inputs: cross_attention.FactoredInputs
) -> jax.Array:
  """Returns logits, [B, H, K, M] float32."""
  batch, num_latents, num_heads, channels = queries.vectors.shape
  vectors = queries.vectors.reshape(
    batch, num_latents * num_heads, channels
  )  # [B, K H, C]
  scores = [
    factored.scores(from_channels(vectors, segment), elements)
    for segment, elements in zip(inputs.segments, inputs.elements, strict=True)
  ]
  out = jnp.concatenate(scores, axis=-1)  # [B, K H, M]
  out = out.reshape(batch, num_latents, num_heads, out.shape[-1])
  return (out + queries.bias[..., None]).swapaxes(1, 2)


def _prepare(inputs: ByteArray) -> cross_attention.FactoredInputs:
  check(inputs)
  method = cross_attention.Method('factored')
  prepared = cross_attention.prepare(inputs, method, jnp.dtype(jnp.float32))
  assert isinstance(prepared, cross_attention.FactoredInputs)
  return prepared
