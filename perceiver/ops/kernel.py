"""The core of factored cross-attention as a GPU kernel (Pallas, Triton).

`forward` and `backward` do for one segment what `factored.attend` does with
arrays: a program takes a block of rows of one example and walks over the grid's
lines. Logits, weights and sums stay in registers. All in float32.

Of a grid, the kernel knows lines and places on a line: the last axis is the
line, all axes before it are one, whose tables are added up beforehand. On a CPU
the kernel is interpreted, for tests.

Glossary of shapes:
- B: batch; R: rows; K: columns; M: elements, O lines of W places each.
"""

import dataclasses

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from perceiver.ops.rows import Elements, FLOOR, Rows, WIDE_COLUMNS

BLOCK = 16  # Rows of a program.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Lines:
  """Elements by line; W filled up to a power of two, as Triton wants it."""

  columns: jax.Array  # [B, K, O, W]
  scale: jax.Array  # [B, O, W]
  floor: jax.Array  # [B, O, W]: 0, or FLOOR where there is no element.


def suits(rows: Rows, elements: Elements) -> bool:
  """Whether the kernel takes a segment."""
  return bool(rows.axes) and elements.columns.shape[1] <= WIDE_COLUMNS


def _power_of_two(size: int) -> int:
  return 1 << (size - 1).bit_length()


def _pad(x: jax.Array, axis: int, size: int, value: float = 0.0) -> jax.Array:
  widths = [(0, 0)] * x.ndim
  widths[axis] = (0, size - x.shape[axis])
  return jnp.pad(x, widths, constant_values=value)


def _lines(elements: Elements) -> _Lines:
  batch, k, _ = elements.columns.shape
  width = elements.grid[-1]
  floor = jnp.zeros_like(elements.scale)
  if elements.mask is not None:
    floor = jnp.where(elements.mask, floor, FLOOR)
  padded = _power_of_two(width)
  return _Lines(
    _pad(elements.columns.reshape(batch, k, -1, width), 3, padded),
    _pad(elements.scale.reshape(batch, -1, width), 2, padded),
    _pad(floor.reshape(batch, -1, width), 2, padded, FLOOR),
  )


def _split(rows: Rows, elements: Elements) -> list[jax.Array]:
  """Rows as the kernel reads them: [B, K, R], [B, O, R] and [B, R, W]."""
  batch, num_rows, _ = rows.columns.shape
  *outer_axes, inner = rows.axes
  outer_grid = elements.grid[:-1]
  outer = jnp.zeros((batch, num_rows, *outer_grid))
  for axis, values in enumerate(outer_axes):
    shape = [1] * len(outer_grid)
    shape[axis] = outer_grid[axis]
    outer += values.reshape(batch, num_rows, *shape)
  size = -(-num_rows // BLOCK) * BLOCK
  outer = outer.reshape(batch, num_rows, -1)
  return [
    _pad(rows.columns.swapaxes(1, 2), 2, size),
    _pad(outer.swapaxes(1, 2), 2, size),
    _pad(_pad(inner, 2, _power_of_two(elements.grid[-1])), 1, size),
  ]


def _join(
  columns: jax.Array,  # [B, K, R]
  outer: jax.Array,  # [B, O, R]
  inner: jax.Array,  # [B, R, W]
  num_rows: int,
  elements: Elements,
) -> Rows:
  """The transpose of `_split`."""
  batch = columns.shape[0]
  *outer_grid, width = elements.grid
  outer = outer.swapaxes(1, 2)[:, :num_rows]
  outer = outer.reshape(batch, num_rows, *outer_grid)
  axes = [
    outer.sum([i + 2 for i in range(len(outer_grid)) if i != axis])
    for axis in range(len(outer_grid))
  ]
  return Rows(
    columns.swapaxes(1, 2)[:, :num_rows],
    (*axes, inner[:, :num_rows, :width]),
  )


class _Block:
  """A program's block of rows, and what it reads and writes."""

  def __init__(self, lines: _Lines):
    self.lines = lines  # References.
    self.example = pl.program_id(0)
    self.rows = pl.ds(pl.program_id(1) * BLOCK, BLOCK)
    self.num_columns, self.num_lines = lines.columns.shape[1:3]

  def read(self, columns, outer, inner):
    """Rows that stay in registers, and the reference to the outer axis."""
    return (
      [columns[self.example, k, self.rows] for k in range(self.num_columns)],
      outer,
      inner[self.example, self.rows, :],
    )

  def scores(self, rows, line):
    """[BLOCK, W] products of the rows with a line's elements."""
    columns, outer, inner = rows
    position = outer[self.example, line, self.rows][:, None] + inner
    scores = self.lines.scale[self.example, line, :][None, :] * position
    for k, column in enumerate(columns):
      scores += (
        column[:, None] * self.lines.columns[self.example, k, line, :][None, :]
      )
    return scores

  def exists(self, line):
    return self.lines.floor[self.example, line, :][None, :] == 0.0

  def gather(self, weights_of, columns_out, outer_out, inner_out):
    """Sums over all lines with weights [BLOCK, W], a function of the line."""

    def body(line, carry):
      columns, inner = carry
      weights = weights_of(line)
      scaled = weights * self.lines.scale[self.example, line, :][None, :]
      outer_out[self.example, line, self.rows] = jnp.sum(scaled, axis=1)
      columns = [
        column
        + jnp.sum(
          weights * self.lines.columns[self.example, k, line, :][None, :],
          axis=1,
        )
        for k, column in enumerate(columns)
      ]
      return columns, inner + scaled

    zeros = [jnp.zeros(BLOCK) for _ in range(self.num_columns)]
    width = self.lines.scale.shape[-1]
    columns, inner = jax.lax.fori_loop(
      0, self.num_lines, body, (zeros, jnp.zeros((BLOCK, width)))
    )
    for k, column in enumerate(columns):
      columns_out[self.example, k, self.rows] = column
    inner_out[self.example, self.rows, :] = inner


def _forward_kernel(
  columns, scale, floor, q_columns, q_outer, q_inner, *outputs
):
  *sums, log_total_out = outputs
  block = _Block(_Lines(columns, scale, floor))
  queries = block.read(q_columns, q_outer, q_inner)

  def masked_scores(line):
    return jnp.where(block.exists(line), block.scores(queries, line), FLOOR)

  def peak_and_total(line, carry):
    peak, total = carry
    scores = masked_scores(line)
    new_peak = jnp.maximum(peak, jnp.max(scores, axis=1))
    weights = jnp.exp(scores - new_peak[:, None])
    weights = jnp.where(block.exists(line), weights, 0.0)
    total = total * jnp.exp(peak - new_peak) + jnp.sum(weights, axis=1)
    return new_peak, total

  peak, total = jax.lax.fori_loop(
    0,
    block.num_lines,
    peak_and_total,
    (jnp.full(BLOCK, FLOOR), jnp.zeros(BLOCK)),
  )
  log_total = peak + jnp.log(jnp.where(total == 0.0, 1.0, total))
  log_total_out[block.example, block.rows] = log_total

  def weights_of(line):
    weights = jnp.exp(masked_scores(line) - log_total[:, None])
    return jnp.where(block.exists(line), weights, 0.0)

  block.gather(weights_of, *sums)


def _backward_kernel(
  columns,
  scale,
  floor,
  q_columns,
  q_outer,
  q_inner,
  c_columns,
  c_outer,
  c_inner,
  log_total,
  mean,
  *sums,
):
  block = _Block(_Lines(columns, scale, floor))
  queries = block.read(q_columns, q_outer, q_inner)
  cotangents = block.read(c_columns, c_outer, c_inner)
  log_total = log_total[block.example, block.rows][:, None]
  mean = mean[block.example, block.rows][:, None]

  def slopes_of(line):
    weights = jnp.exp(
      jnp.where(block.exists(line), block.scores(queries, line), FLOOR)
      - log_total
    )
    slopes = weights * (block.scores(cotangents, line) - mean)
    return jnp.where(block.exists(line), slopes, 0.0)

  block.gather(slopes_of, *sums)


def _call(kernel, lines: _Lines, rows: list[jax.Array], with_total: bool):
  columns, outer, inner = rows[:3]
  shaped = lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32)
  out_shape = [shaped(columns), shaped(outer), shaped(inner)]
  batch, _, num_rows = columns.shape
  if with_total:
    out_shape.append(jax.ShapeDtypeStruct((batch, num_rows), jnp.float32))
  return pl.pallas_call(
    kernel,
    grid=(batch, num_rows // BLOCK),
    out_shape=out_shape,
    interpret=jax.default_backend() == 'cpu',
  )(lines.columns, lines.scale, lines.floor, *rows)


def forward(rows: Rows, elements: Elements) -> tuple[Rows, jax.Array]:
  """One segment's softmax: what rows gather, and log of the total [B, R, 1]."""
  num_rows = rows.columns.shape[1]
  columns, outer, inner, log_total = _call(
    _forward_kernel, _lines(elements), _split(rows, elements), True
  )
  sums = _join(columns, outer, inner, num_rows, elements)
  return sums, log_total[:, :num_rows, None]


def backward(
  rows: Rows,
  cotangents: Rows,
  elements: Elements,
  log_total: jax.Array,
  mean: jax.Array,
) -> Rows:
  """Gradients of the rows.

  Args:
    rows: as for `forward`.
    cotangents: of what they gathered.
    elements: as for `forward`.
    log_total: [B, R, 1], over all segments.
    mean: [B, R, 1], Σ gathered · cotangent over all segments.

  Returns:
    The gradients, as rows.
  """
  num_rows = rows.columns.shape[1]
  split = _split(rows, elements)
  size = split[0].shape[-1]
  columns, outer, inner = _call(
    _backward_kernel,
    _lines(elements),
    [
      *split,
      *_split(cotangents, elements),
      _pad(log_total[..., 0], 1, size),
      _pad(mean[..., 0], 1, size),
    ],
    False,
  )
  return _join(columns, outer, inner, num_rows, elements)
