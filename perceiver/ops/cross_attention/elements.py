"""Operands of the factored form, made from a byte array's segments.

Glossary of shapes:
- B: batch; R: queries, one for each latent and head; M: elements of a segment.
- C: channels; P: channels of an axis's table; E: of a modality encoding.
- K: columns, the content channels and one for the mean; S: size of a grid axis.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perceiver.inputs import Segment
from perceiver.ops.attention import EPSILON

FLOOR = -1e30  # Logit of a masked element; its weight is set to 0 anyway.
WIDE_COLUMNS = 16  # More columns go to matrix units, in the compute dtype.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Elements:
  """The layer-normed elements of a segment, as the core takes them.

  Arrays are float32, except that wide columns have the compute dtype.
  """

  columns: jax.Array  # [B, K, M]: ρ content, then ρ μ.
  scale: jax.Array  # [B, M]: ρ
  mask: jax.Array | None  # [B, M] bool, True where an element exists.
  grid: tuple[int, ...] = dataclasses.field(metadata={'static': True})


class Vectors(NamedTuple):
  """One segment's part of vectors [B, R, C]: queries, sums or cotangents."""

  columns: jax.Array  # [B, R, K]
  axes: tuple[jax.Array, ...]  # [B, R, S] for each axis with a table.


def outer_sum(axes: Sequence[jax.Array], grid: Sequence[int]) -> jax.Array:
  """Adds up the axes' entries at each place of a grid.

  Args:
    axes: [B, R, S] for each axis of the grid, one at least.
    grid: sizes S.

  Returns:
    [B, R, *grid].
  """
  parts = []
  for axis, values in enumerate(axes):
    shape = [1] * len(grid)
    shape[axis] = grid[axis]
    parts.append(values.reshape(*values.shape[:2], *shape))
  return functools.reduce(jnp.add, parts)


def marginals(x: jax.Array, num_axes: int) -> tuple[jax.Array, ...]:
  """Sums [B, R, *grid] over all axes but one: the transpose of `outer_sum`."""
  axes = range(2, x.ndim)
  return tuple(
    x.sum([axis for axis in axes if axis != kept]) for kept in axes[:num_axes]
  )


def pad(x: jax.Array, axis: int, size: int, value: float = 0.0) -> jax.Array:
  """Pads an axis at its end, up to a size."""
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, size - x.shape[axis])
  return jnp.pad(x, widths, constant_values=value)


def unstructured(segment: Segment) -> Segment:
  """Puts the elements in a row, with all channels as content."""
  array = segment.to_array()  # [B, elements, C]
  mask = segment.mask
  return Segment(
    array,
    jnp.zeros((1, *array.shape[1:2], 0), array.dtype),
    mask=None if mask is None else mask.reshape(array.shape[:2]),
  )


def normalize(segment: Segment, dtype: jnp.dtype) -> Elements:
  """Normalizes a float32 segment, without concatenating its channels.

  The result is float32, except that wide content has the compute dtype, for the
  matrix units.
  """
  content = segment.masked_content()  # [B, *grid, channels]
  # For each group of channels: its size, and each element's mean and variance.
  groups = []
  if content.shape[-1]:
    groups.append((content.shape[-1], content.mean(-1), content.var(-1)))
  for axis, table in enumerate(segment.tables):
    along = functools.partial(_along, axis=axis, grid=segment.grid)
    groups.append(
      (table.shape[-1], along(table.mean(-1)), along(table.var(-1)))
    )
  if segment.encoding is not None:
    encoding = segment.encoding
    groups.append((encoding.shape[-1], encoding.mean(), encoding.var()))
  mean = jnp.zeros(content.shape[:-1], jnp.float32)  # [B, *grid]
  for count, group_mean, _ in groups:
    mean += count / segment.num_channels * group_mean
  variance = jnp.zeros_like(mean)
  for count, group_mean, group_variance in groups:
    variance += (count / segment.num_channels) * (
      group_variance + jnp.square(group_mean - mean)
    )
  scale = jax.lax.rsqrt(variance + EPSILON)
  leading = 1 + len(segment.grid)
  flat = lambda x: x.reshape(
    x.shape[0], segment.num_elements, *x.shape[leading:]
  )
  scale, shift = flat(scale), flat(scale * mean)
  columns = jnp.concatenate(
    [flat(content).swapaxes(1, 2) * scale[:, None], shift[:, None]], axis=1
  )
  if columns.shape[1] > WIDE_COLUMNS:
    columns = columns.astype(dtype)
  return Elements(
    columns,
    scale,
    None if segment.mask is None else flat(segment.mask),
    segment.grid,
  )


def _along(values: jax.Array, axis: int, grid: Sequence[int]) -> jax.Array:
  """Reshapes [S] to lie along an axis of [B, *grid]."""
  shape = [1] * (len(grid) + 1)
  shape[axis + 1] = grid[axis]
  return values.reshape(shape)


def _split(u: jax.Array, segment: Segment) -> list[jax.Array]:
  """Splits channels into content, one part for each table, and encoding."""
  sizes = [segment.content.shape[-1], *(t.shape[-1] for t in segment.tables)]
  ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
  return jnp.split(u, ends, axis=-1)


def from_channels(u: jax.Array, segment: Segment) -> Vectors:
  """Turns [B, R, C] vectors into the form that meets a segment's elements."""
  content, *positions, encoding = _split(u, segment)
  axes = [
    jnp.einsum('brp,sp->brs', part, table)
    for part, table in zip(positions, segment.tables, strict=True)
  ]
  if segment.encoding is not None:  # Equal for all elements: on one axis.
    axes[0] += jnp.einsum('bre,e->br', encoding, segment.encoding)[..., None]
  minus_sum = -u.sum(axis=-1, keepdims=True)
  columns = jnp.concatenate([content, minus_sum], axis=-1)
  return Vectors(columns, tuple(axes))


def to_channels(gathered: Vectors, segment: Segment) -> jax.Array:
  """Returns gathered sums as [B, R, C]: the transpose of `from_channels`."""
  content, minus_mean = gathered.columns[..., :-1], gathered.columns[..., -1:]
  parts = [content]
  for sums, table in zip(gathered.axes, segment.tables, strict=True):
    parts.append(jnp.einsum('brs,sp->brp', sums, table))
  if segment.encoding is not None:
    total = gathered.axes[0].sum(axis=-1)
    parts.append(jnp.einsum('br,e->bre', total, segment.encoding))
  return jnp.concatenate(parts, axis=-1) - minus_mean
