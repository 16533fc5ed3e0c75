"""Softmax attention to layer-normed elements on grids, without keys or values.

The elements' position channels are separable over the grid's axes, so that both
the logits and the weighted sums need but a few operations for each pair of a
row and an element. With x the concatenation of content and positions, μ and ρ
the mean and the inverse standard deviation of an element's channels:

  logits_rm = u_r · ρ_m (x_m - μ_m)
            = (content columns of u_r) · (ρ_m content_m)  - (Σ u_r) ρ_m μ_m
              + ρ_m Σ_axes α_axis[r, index of m on the axis]

where α = (position columns of u_r) · (the axis's table)ᵀ. What a row gathers
from the elements has the same form: sums of ρ content and of ρ μ, and for each
axis the marginals of its weights times ρ. So has the backward pass: its logits
are of the cotangents instead of u, its weights are those of the softmax's
derivative. `attend` is that core; all around it is linear and left to JAX.

Glossary of shapes:
- B: batch; R: rows, one for each latent and head; M: elements of a segment.
- K: columns, the content channels and one for the mean; S: size of a grid axis.
"""

import dataclasses
import functools
import math
import types

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from perceiver.ops.cross_attention.hardware import Hardware
from perceiver.ops.cross_attention.rows import (
  Elements,
  FLOOR,
  marginals,
  Rows,
  spread,
  WIDE_COLUMNS,
)

SAVED = 'gathered'  # Name of the residuals, for policies of jax.checkpoint.


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A module that does for one segment what is here done with arrays."""

  module: types.ModuleType  # `gpu` or `tpu`.
  interpret: bool = False  # By Pallas's interpreter, for tests.

  def forward(self, *arguments):
    return self.module.forward(*arguments, interpret=self.interpret)

  def backward(self, *arguments):
    return self.module.backward(*arguments, interpret=self.interpret)


def _product(equation: str, x: jax.Array, columns: jax.Array) -> jax.Array:
  """A float32 result of what is multiplied in the columns' dtype."""
  return jnp.einsum(
    equation,
    x.astype(columns.dtype),
    columns,
    preferred_element_type=jnp.float32,
  )


def scores(rows: Rows, elements: Elements) -> jax.Array:
  """The product of each row with each normed element: [B, R, M]."""
  out = _product('brk,bkm->brm', rows.columns, elements.columns)
  if rows.axes:
    positions = spread(rows.axes, elements.grid).reshape(out.shape)
    out += elements.scale[:, None, :] * positions
  return out


def _sums(weights: jax.Array, elements: Elements, num_axes: int) -> Rows:
  """What rows with weights [B, R, M] gather; the transpose of `scores`."""
  columns = _product('brm,bkm->brk', weights, elements.columns)
  scaled = weights * elements.scale[:, None, :]
  scaled = scaled.reshape(*weights.shape[:2], *elements.grid)
  return Rows(columns, marginals(scaled, num_axes))


def _masked(x: jax.Array, elements: Elements, value: float) -> jax.Array:
  if elements.mask is None:
    return x
  return jnp.where(elements.mask[:, None, :], x, value)


def rows_per_tile(
  queries: tuple[Rows, ...], segments: tuple[Elements, ...], hardware: Hardware
) -> int:
  """How many rows to treat at once, by what fits the hardware."""
  batch, num_rows, _ = queries[0].columns.shape
  budget = hardware.tile_logits
  if any(rows.axes for rows in queries):
    budget = hardware.tile_logits_on_grid
  if max(e.columns.shape[1] for e in segments) > WIDE_COLUMNS:
    budget *= hardware.wide_factor
  elements = batch * sum(math.prod(e.grid) for e in segments)
  count = max(1, min(num_rows, budget // max(1, elements)))
  return -(-num_rows // -(-num_rows // count))  # As even as can be.


def _tiled(function, carry, rows, num_rows: int, tile: int):
  """Scans over tiles of the rows (axis 1 of all leaves), padded with zeros."""
  num_tiles = -(-num_rows // tile)
  if num_tiles == 1:
    return function(carry, rows)
  padding = num_tiles * tile - num_rows

  def split(x):
    x = jnp.pad(x, [(0, 0), (0, padding), *[(0, 0)] * (x.ndim - 2)])
    return x.reshape(x.shape[0], num_tiles, tile, *x.shape[2:]).swapaxes(0, 1)

  def join(x):
    x = x.swapaxes(0, 1)
    x = x.reshape(x.shape[0], num_tiles * tile, *x.shape[3:])
    return x[:, :num_rows]

  carry, out = jax.lax.scan(function, carry, jax.tree.map(split, rows))
  return carry, jax.tree.map(join, out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def attend(
  queries: tuple[Rows, ...],
  segments: tuple[Elements, ...],
  tile: int,
  kernel: Kernel | None = None,
) -> tuple[Rows, ...]:
  """Softmax over the elements of all segments; what each row gathers.

  Neither pass keeps an array of rows × elements: they go through tiles of rows,
  and the backward pass computes the weights again.

  Args:
    queries: for each segment its part of the rows, scaled as logits are.
    segments: the elements.
    tile: rows to treat at once.
    kernel: does it instead.

  Returns:
    For each segment its part of what the rows gather; 0 where no element of any
    segment exists.
  """
  return _attend_forward(queries, segments, tile, kernel)[0]


def _attend_forward(queries, segments, tile, kernel):
  if kernel is not None:
    out, log_total = _merge(
      [kernel.forward(q, e) for q, e in zip(queries, segments, strict=True)]
    )
  else:
    num_rows = queries[0].columns.shape[1]
    forward = functools.partial(_forward_tile, segments)
    _, (out, log_total) = _tiled(forward, None, queries, num_rows, tile)
  # Small beside what they are made from, so worth keeping in any remat policy.
  out, log_total = checkpoint_name((out, log_total), SAVED)
  return out, (queries, segments, out, log_total)


def _merge(parts: list[tuple[Rows, jax.Array]]):
  """One softmax from those of each segment and the logs of their totals."""
  log_total = functools.reduce(jnp.logaddexp, [total for _, total in parts])
  merged = []
  for rows, total in parts:
    share = jnp.exp(total - log_total)  # [B, R, 1]
    merged.append(jax.tree.map(functools.partial(jnp.multiply, share), rows))
  return tuple(merged), log_total


def _forward_tile(segments, carry, queries):
  """The joint softmax over all segments, for a tile of rows."""
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
  # Σ_m weight_rm (cotangent_r · element_m), for each row: [B, R, 1]
  products = jax.tree.map(
    lambda x, y: (x * y).sum(axis=-1, keepdims=True), out, cotangents
  )
  mean = functools.reduce(jnp.add, jax.tree.leaves(products))

  if kernel is not None:
    gradients = [
      kernel.backward(q, c, e, log_total, mean)
      for q, c, e in zip(queries, cotangents, segments, strict=True)
    ]
    row_gradients, element_gradients = zip(*gradients, strict=True)
  else:
    row_gradients, element_gradients = _backward_tiles(
      queries, cotangents, segments, log_total, mean, tile
    )
  # Of the gradients, the compiler drops those that nobody asks for: mostly the
  # elements'.
  return tuple(row_gradients), tuple(
    dataclasses.replace(
      e, columns=columns.astype(e.columns.dtype), scale=scale, mask=None
    )
    for e, (columns, scale) in zip(segments, element_gradients, strict=True)
  )


def _backward_tiles(queries, cotangents, segments, log_total, mean, tile):
  """Gradients of the rows, and of each segment's columns and scale."""

  def body(segment_gradients, rows):
    queries, cotangents, log_total, mean = rows
    row_gradients, sums = [], []
    for q, c, e, g in zip(
      queries, cotangents, segments, segment_gradients, strict=True
    ):
      weights = _masked(jnp.exp(scores(q, e) - log_total), e, 0.0)
      slopes = weights * (scores(c, e) - mean)  # Of the logits, [B, R, M]
      row_gradients.append(_sums(slopes, e, len(q.axes)))
      sums.append(
        jax.tree.map(jnp.add, g, _element_gradients(q, c, e, slopes, weights))
      )
    return tuple(sums), tuple(row_gradients)

  num_rows = queries[0].columns.shape[1]
  zeros = tuple(
    (jnp.zeros(e.columns.shape, jnp.float32), jnp.zeros_like(e.scale))
    for e in segments
  )
  element_gradients, row_gradients = _tiled(
    body, zeros, (queries, cotangents, log_total, mean), num_rows, tile
  )
  return row_gradients, element_gradients


def _element_gradients(queries, cotangents, elements, slopes, weights):
  """One tile's part of the gradients of a segment's columns and scale."""
  columns = jnp.einsum('brm,brk->bkm', slopes, queries.columns) + jnp.einsum(
    'brm,brk->bkm', weights, cotangents.columns
  )
  scale = jnp.zeros_like(elements.scale)
  if queries.axes:
    shape = slopes.shape
    scale += jnp.sum(
      slopes * spread(queries.axes, elements.grid).reshape(shape)
      + weights * spread(cotangents.axes, elements.grid).reshape(shape),
      axis=1,
    )
  return columns, scale


attend.defvjp(_attend_forward, _attend_backward)
