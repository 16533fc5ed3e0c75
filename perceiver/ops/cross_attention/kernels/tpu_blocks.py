"""How the TPU kernel cuts a segment's elements and the queries into blocks.

A block is a few whole lines of a grid. A line is the last axis; all axes before
it are joined into one. The features of an element are its columns, and one more
for each line of the block: ρ for its own line, 0 for the others. So one product
on the matrix unit gives the logits' parts of content, mean and line, and its
transpose their sums.

Glossary of shapes:
- B: batch; R: queries; K: columns; M: elements.
- I: blocks, of L lines with W places, P = L W in all; J: features.
- Q: places after which the lines repeat, in whole registers.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perceiver.ops.cross_attention.elements import (
  Elements,
  FLOOR,
  marginals,
  outer_sum,
  pad,
  Vectors,
)

LANES, SUBLANES = 128, 8  # Of a vector register of 32-bit numbers.


class Blocks(NamedTuple):
  """Elements by block, or their gradients."""

  features: Any  # [B, I, J, P] float32
  wide: Any  # [B, I, K, P] columns of another dtype; or None.
  scale: Any  # [B, I, 1, P] ρ, if places on a line differ; or None.


class BlockVectors(NamedTuple):
  """Queries, cotangents or gathered sums by block."""

  features: Any  # [B, I, J, R]
  wide: Any  # [B, 1, K, R] or None
  inner: Any  # [B, 1, Q, R]; [B, I, P, R] if a line is cut; or None.


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a segment's elements are cut into blocks."""

  num_blocks: int  # I
  lines: int  # L
  width: int  # W, padded.
  grid: tuple[int, int]  # Lines and places, without padding.
  has_lines: bool  # Whether there is more than one axis.

  @property
  def places(self) -> int:
    return self.lines * self.width

  @property
  def period(self) -> int:  # Q
    if not self.has_lines:
      return self.places
    return math.lcm(self.width, SUBLANES)

  def own_line(self) -> jax.Array:
    """Returns [1, 1, L, P]: 1 where a place is on a line, else 0."""
    return jnp.repeat(
      jnp.eye(self.lines, dtype=jnp.float32), self.width, axis=1
    )[None, None]

  def cut(self, x: jax.Array, value: float = 0.0) -> jax.Array:
    """Cuts [..., M] to [..., I, P], padded."""
    leading = x.shape[:-1]
    x = x.reshape(*leading, *self.grid)
    if self.has_lines:
      size = (self.num_blocks * self.lines, self.width)
    else:
      size = (1, self.num_blocks * self.width)
    x = pad(pad(x, -2, size[0], value), -1, size[1], value)
    return x.reshape(*leading, self.num_blocks, self.places)

  def join(self, x: jax.Array) -> jax.Array:
    """Joins [..., I, P] to [..., M]: the inverse of `cut`."""
    leading = x.shape[:-2]
    if self.has_lines:
      x = x.reshape(*leading, -1, self.width)
    else:
      x = x.reshape(*leading, 1, -1)
    return x[..., : self.grid[0], : self.grid[1]].reshape(*leading, -1)


def _round_up(size: int, multiple: int) -> int:
  return -(-size // multiple) * multiple


def layout_of(grid: tuple[int, ...], max_places: int) -> Layout | None:
  """Returns blocks of whole registers with the least padding, if any fit."""
  if len(grid) < 2:
    places = math.prod(grid)
    num_blocks = -(-places // max_places)
    width = _round_up(-(-places // num_blocks), LANES)
    return Layout(num_blocks, 1, width, (1, places), False)
  num_lines, places = math.prod(grid[:-1]), grid[-1]
  layouts = []
  for width in range(places, _round_up(places, LANES) + 1):
    step = LANES // math.gcd(width, LANES)  # Lines that fill registers.
    if step * width <= max_places:
      lines = min(max_places // (step * width), -(-num_lines // step)) * step
      num_blocks = -(-num_lines // lines)
      layouts.append(
        Layout(num_blocks, lines, width, (num_lines, places), True)
      )
  return min(layouts, key=lambda x: x.num_blocks * x.places, default=None)


def cut_elements(elements: Elements, layout: Layout, has_axes: bool) -> Blocks:
  """Cuts elements into blocks, padded with elements that do not exist."""
  columns = layout.cut(elements.columns).swapaxes(1, 2)  # [B, I, K, P]
  scale = layout.cut(elements.scale)  # [B, I, P]
  features, wide = [], None
  if columns.dtype == jnp.float32:
    features.append(columns)
  else:
    wide = pad(columns, 2, _round_up(columns.shape[2], 2 * SUBLANES))
  if layout.has_lines:
    features.append(scale[:, :, None, :] * layout.own_line())
  exists = jnp.ones(elements.scale.shape, bool)
  if elements.mask is not None:
    exists = elements.mask
  exists = layout.cut(exists, False)
  features.append(jnp.where(exists, 0.0, FLOOR)[:, :, None, :])
  joined = jnp.concatenate(features, axis=2)
  return Blocks(
    pad(joined, 2, _round_up(joined.shape[2], SUBLANES)),
    wide,
    scale[:, :, None, :] if has_axes else None,
  )


def cut_vectors(
  vectors: Vectors, elements: Elements, layout: Layout, floor: float
) -> BlockVectors:
  """Cuts vectors into blocks, padded; `floor` is 1 if masks count, else 0."""
  batch, num_queries, num_columns = vectors.columns.shape
  num_blocks, lines = layout.num_blocks, layout.lines
  size = _round_up(num_queries, LANES)
  across = lambda x: pad(x.swapaxes(-1, -2), -1, size)  # [..., R, J] to [J, R]
  features, wide, inner = [], None, None
  columns = across(vectors.columns)[:, None]  # [B, 1, K, R]
  if elements.columns.dtype == jnp.float32:
    features.append(
      jnp.broadcast_to(columns, (batch, num_blocks, num_columns, size))
    )
  else:
    wide = pad(
      columns.astype(elements.columns.dtype),
      2,
      _round_up(num_columns, 2 * SUBLANES),
    )
  if layout.has_lines:
    outer = outer_sum(vectors.axes[:-1], elements.grid[:-1])
    outer = pad(outer.reshape(batch, num_queries, -1), 2, num_blocks * lines)
    outer = across(outer).reshape(batch, num_blocks, lines, size)
    features.append(outer)
  features.append(jnp.full((batch, num_blocks, 1, size), floor, jnp.float32))
  joined = jnp.concatenate(features, axis=2)
  if vectors.axes:
    inner = vectors.axes[-1]
    if layout.has_lines:
      inner = pad(inner, 2, layout.width)
      inner = jnp.tile(inner, layout.period // layout.width)[:, :, None]
    else:
      inner = layout.cut(inner)  # [B, R, I, P]
    inner = across(inner.swapaxes(1, 2))
  return BlockVectors(
    pad(joined, 2, _round_up(joined.shape[2], SUBLANES)), wide, inner
  )


def join_vectors(
  sums: BlockVectors,
  share: jax.Array,
  queries: Vectors,
  elements: Elements,
  layout: Layout,
) -> Vectors:
  """Joins blocks of sums, scaled by `share`: the transpose of `cut_vectors`."""
  batch, num_queries, num_columns = queries.columns.shape
  num_lines = layout.grid[0]
  back = lambda x: x.swapaxes(-1, -2)[..., :num_queries, :]
  last = share[:, -1:]
  features = sums.features * share
  if sums.wide is None:
    columns = back(features[:, :, :num_columns].sum(axis=1))
    features = features[:, :, num_columns:]
  else:
    columns = back((sums.wide * last)[:, 0, :num_columns])
  axes: list[jax.Array] = []
  if layout.has_lines:
    outer_grid = elements.grid[:-1]
    outer = features[:, :, : layout.lines].reshape(batch, -1, share.shape[-1])
    outer = back(outer)[..., :num_lines].reshape(
      batch, num_queries, *outer_grid
    )
    axes.extend(marginals(outer, len(outer_grid)))
  if queries.axes:
    if layout.has_lines:
      inner = back(sums.inner * last)[:, 0]
      inner = inner.reshape(batch, num_queries, -1, layout.width).sum(axis=2)
      axes.append(inner[..., : layout.grid[1]])
    else:
      inner = back(sums.inner * share).swapaxes(1, 2)  # [B, R, I, P]
      axes.append(layout.join(inner))
  return Vectors(columns, tuple(axes))


def join_elements(
  gradients: Blocks, elements: Elements, layout: Layout
) -> tuple[jax.Array, jax.Array]:
  """Joins blocks of gradients: the transpose of `cut_elements`."""
  num_columns = elements.columns.shape[1]
  features = gradients.features
  if gradients.wide is None:
    columns, features = (
      features[:, :, :num_columns],
      features[:, :, num_columns:],
    )
  else:
    columns = gradients.wide[:, :, :num_columns]
  scale = jnp.zeros(
    (features.shape[0], layout.num_blocks, layout.places), jnp.float32
  )
  if gradients.scale is not None:
    scale += gradients.scale[:, :, 0]
  if layout.has_lines:
    scale += (features[:, :, : layout.lines] * layout.own_line()).sum(axis=2)
  return layout.join(columns.swapaxes(1, 2)), layout.join(scale)
