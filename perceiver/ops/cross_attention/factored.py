"""Softmax attention to layer-normed elements on grids, without keys or values.

The elements' position channels are separable over the grid's axes. So logits
and weighted sums take only a few operations for each pair of a query and an
element. With x the concatenation of content and positions, and μ and ρ the mean
and the inverse standard deviation of an element's channels:

  logits_rm = u_r · ρ_m (x_m - μ_m)
            = (content columns of u_r) · (ρ_m content_m)  - (Σ u_r) ρ_m μ_m
              + ρ_m Σ_axes α_axis[r, index of m on the axis]

where α = (position columns of u_r) · (the axis's table)ᵀ. A query gathers sums
of the same form: of ρ content, of ρ μ, and for each axis the marginals of its
weights times ρ. The backward pass has that form too, with cotangents in place
of u and the softmax's derivative in place of the weights. `attend` is that
core. Everything around it is linear and left to JAX.

Glossary of shapes:
- B: batch; R: queries, one for each latent and head; M: elements of a segment.
- K: columns, the content channels and one for the mean; S: size of a grid axis.
"""

import dataclasses
import functools
import types

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from perceiver.ops.cross_attention.elements import (
  Elements,
  FLOOR,
  marginals,
  outer_sum,
  Vectors,
)

SAVED = 'gathered'  # Name of the residuals, for policies of jax.checkpoint.


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A kernel that computes the core for one segment."""

  module: types.ModuleType  # `kernels.gpu` or `kernels.tpu`.
  interpret: bool = False  # By Pallas's interpreter, for tests.

  def forward(self, *arguments):
    return self.module.forward(*arguments, interpret=self.interpret)

  def backward(self, *arguments):
    return self.module.backward(*arguments, interpret=self.interpret)


def _product(equation: str, x: jax.Array, columns: jax.Array) -> jax.Array:
  """Multiplies in the columns' dtype, with a float32 result."""
  return jnp.einsum(
    equation,
    x.astype(columns.dtype),
    columns,
    preferred_element_type=jnp.float32,
  )


def scores(vectors: Vectors, elements: Elements) -> jax.Array:
  """Returns each vector's product with each normed element, [B, R, M]."""
  out = _product('brk,bkm->brm', vectors.columns, elements.columns)
  if vectors.axes:
    positions = outer_sum(vectors.axes, elements.grid).reshape(out.shape)
    out += elements.scale[:, None, :] * positions
  return out


def _sums(weights: jax.Array, elements: Elements, num_axes: int) -> Vectors:
  """Sums the elements by weights [B, R, M]: the transpose of `scores`."""
  columns = _product('brm,bkm->brk', weights, elements.columns)
  scaled = weights * elements.scale[:, None, :]
  scaled = scaled.reshape(*weights.shape[:2], *elements.grid)
  return Vectors(columns, marginals(scaled, num_axes))


def _masked(x: jax.Array, elements: Elements, value: float) -> jax.Array:
  if elements.mask is None:
    return x
  return jnp.where(elements.mask[:, None, :], x, value)


def _tiled(function, carry, queries, num_queries: int, tile: int):
  """Scans over tiles of queries (axis 1 of all leaves), padded with zeros."""
  num_tiles = -(-num_queries // tile)
  if num_tiles == 1:
    return function(carry, queries)
  padding = num_tiles * tile - num_queries

  def split(x):
    x = jnp.pad(x, [(0, 0), (0, padding), *[(0, 0)] * (x.ndim - 2)])
    return x.reshape(x.shape[0], num_tiles, tile, *x.shape[2:]).swapaxes(0, 1)

  def join(x):
    x = x.swapaxes(0, 1)
    x = x.reshape(x.shape[0], num_tiles * tile, *x.shape[3:])
    return x[:, :num_queries]

  carry, out = jax.lax.scan(function, carry, jax.tree.map(split, queries))
  return carry, jax.tree.map(join, out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def attend(
  queries: tuple[Vectors, ...],
  segments: tuple[Elements, ...],
  tile: int,
  kernel: Kernel | None = None,
) -> tuple[Vectors, ...]:
  """Gathers, for each query, the softmax-weighted sum of all elements.

  Neither pass keeps an array of queries × elements: both work on tiles of
  queries, and the backward pass computes the weights again.

  Args:
    queries: for each segment its part of the queries, scaled as logits are.
    segments: the elements.
    tile: number of queries to process at once.
    kernel: computes the same instead, without tiles.

  Returns:
    For each segment its part of the gathered sums; 0 where no element of any
    segment exists.
  """
  return _attend_forward(queries, segments, tile, kernel)[0]


def _attend_forward(queries, segments, tile, kernel):
  if kernel is not None:
    out, log_total = _merge(
      [kernel.forward(q, e) for q, e in zip(queries, segments, strict=True)]
    )
  else:
    num_queries = queries[0].columns.shape[1]
    forward = functools.partial(_forward_tile, segments)
    _, (out, log_total) = _tiled(forward, None, queries, num_queries, tile)
  # They are small and expensive to compute: every remat policy keeps them.
  out, log_total = checkpoint_name((out, log_total), SAVED)
  return out, (queries, segments, out, log_total)


def _merge(parts: list[tuple[Vectors, jax.Array]]):
  """Joins the softmaxes of all segments, given the logs of their totals."""
  log_total = functools.reduce(jnp.logaddexp, [total for _, total in parts])
  merged = []
  for sums, total in parts:
    share = jnp.exp(total - log_total)  # [B, R, 1]
    merged.append(jax.tree.map(functools.partial(jnp.multiply, share), sums))
  return tuple(merged), log_total


def _forward_tile(segments, carry, queries):
  """Computes the joint softmax over all segments, for a tile of queries."""
  logits = [
    _masked(scores(q, e), e, FLOOR)
    for q, e in zip(queries, segments, strict=True)
  ]
  peak = functools.reduce(
    jnp.maximum, [x.max(axis=-1, keepdims=True) for x in logits]
  )
  weights = [
    _masked(jnp.exp(s - peak), e, 0.0)
    for s, e in zip(logits, segments, strict=True)
  ]
  total = sum(w.sum(axis=-1, keepdims=True) for w in weights)  # [B, R, 1]
  total = jnp.where(total == 0, 1.0, total)
  gathered = tuple(
    jax.tree.map(lambda x: x / total, _sums(w, e, len(q.axes)))
    for w, e, q in zip(weights, segments, queries, strict=True)
  )
  return carry, (gathered, peak + jnp.log(total))


def _attend_backward(tile, kernel, residuals, cotangents):
  queries, segments, out, log_total = residuals
  # Σ_m weight_rm (cotangent_r · element_m), for each query: [B, R, 1]
  products = jax.tree.map(
    lambda x, y: (x * y).sum(axis=-1, keepdims=True), out, cotangents
  )
  mean = functools.reduce(jnp.add, jax.tree.leaves(products))

  if kernel is not None:
    gradients = [
      kernel.backward(q, c, e, log_total, mean)
      for q, c, e in zip(queries, cotangents, segments, strict=True)
    ]
    query_gradients, element_gradients = zip(*gradients, strict=True)
  else:
    query_gradients, element_gradients = _backward_tiles(
      queries, cotangents, segments, log_total, mean, tile
    )
  # The compiler drops gradients that nobody uses, mostly those of the elements.
  return tuple(query_gradients), tuple(
    dataclasses.replace(
      e, columns=columns.astype(e.columns.dtype), scale=scale, mask=None
    )
    for e, (columns, scale) in zip(segments, element_gradients, strict=True)
  )


def _backward_tiles(queries, cotangents, segments, log_total, mean, tile):
  """Returns gradients of queries, and of the elements' columns and scale."""

  def body(segment_gradients, block):
    queries, cotangents, log_total, mean = block
    query_gradients, sums = [], []
    for q, c, e, g in zip(
      queries, cotangents, segments, segment_gradients, strict=True
    ):
      weights = _masked(jnp.exp(scores(q, e) - log_total), e, 0.0)
      slopes = weights * (
        scores(c, e) - mean
      )  # Gradient of the logits, [B, R, M].
      query_gradients.append(_sums(slopes, e, len(q.axes)))
      sums.append(
        jax.tree.map(jnp.add, g, _element_gradients(q, c, e, slopes, weights))
      )
    return tuple(sums), tuple(query_gradients)

  num_queries = queries[0].columns.shape[1]
  zeros = tuple(
    (jnp.zeros(e.columns.shape, jnp.float32), jnp.zeros_like(e.scale))
    for e in segments
  )
  element_gradients, query_gradients = _tiled(
    body, zeros, (queries, cotangents, log_total, mean), num_queries, tile
  )
  return query_gradients, element_gradients


def _element_gradients(queries, cotangents, elements, slopes, weights):
  """Returns a tile's share of the gradients of columns and scale."""
  columns = jnp.einsum('brm,brk->bkm', slopes, queries.columns) + jnp.einsum(
    'brm,brk->bkm', weights, cotangents.columns
  )
  scale = jnp.zeros_like(elements.scale)
  if queries.axes:
    shape = slopes.shape
    scale += jnp.sum(
      slopes * outer_sum(queries.axes, elements.grid).reshape(shape)
      + weights * outer_sum(cotangents.axes, elements.grid).reshape(shape),
      axis=1,
    )
  return columns, scale


attend.defvjp(_attend_forward, _attend_backward)
