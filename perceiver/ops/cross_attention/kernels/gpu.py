"""The core of factored cross-attention as a GPU kernel (Pallas, Triton).

`forward` and `backward` compute `factored.attend` for one segment, in float32.
A program takes a block of queries of one example and walks over the grid's
lines, as a streaming softmax does. Logits, weights and sums stay in registers.

The kernel sees a grid as lines: the last axis is the line, and all axes before
it are joined into one, with their tables added up beforehand.

Glossary of shapes:
- B: batch; R: queries; K: columns; M: elements, O lines of W places each.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
import jax.numpy as jnp

from perceiver.ops.cross_attention.elements import (
  Elements,
  FLOOR,
  marginals,
  outer_sum,
  pad,
  Vectors,
  WIDE_COLUMNS,
)

BLOCK = 16  # Queries of a program.
# No pass then spills registers: at most 128 a thread, and 16 warps run at once
# on a multiprocessor (sm_80, sm_90, sm_100).
NUM_WARPS = 16
MAX_WIDTH = 256  # Places on a line, for the same reason.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Lines:
  """Elements by line; W is padded to a power of two for Triton."""

  columns: jax.Array  # [B, K, O, W]
  scale: jax.Array  # [B, O, W]
  floor: jax.Array  # [B, O, W]: 0, or FLOOR where there is no element.


def suits(grid: tuple[int, ...], has_axes: bool, num_columns: int) -> bool:
  """Tells whether the kernel takes a segment: narrow content, short lines."""
  return has_axes and num_columns <= WIDE_COLUMNS and grid[-1] <= MAX_WIDTH


def _zeros(*shape: int) -> jax.Array:
  """Returns float32 zeros, even where JAX's default is float64."""
  return jnp.zeros(shape, jnp.float32)


def _power_of_two(size: int) -> int:
  return 1 << (size - 1).bit_length()


def _lines(elements: Elements) -> _Lines:
  batch, k, _ = elements.columns.shape
  width = elements.grid[-1]
  floor = jnp.zeros_like(elements.scale)
  if elements.mask is not None:
    floor = jnp.where(elements.mask, floor, FLOOR)
  padded = _power_of_two(width)
  return _Lines(
    pad(elements.columns.reshape(batch, k, -1, width), 3, padded),
    pad(elements.scale.reshape(batch, -1, width), 2, padded),
    pad(floor.reshape(batch, -1, width), 2, padded, FLOOR),
  )


class _LineVectors(NamedTuple):
  """Queries or gathered sums by line; R is padded to whole blocks."""

  columns: Any  # [B, K, R]
  outer: Any  # [B, O, R]
  inner: Any  # [B, R, W]


def _split(vectors: Vectors, elements: Elements) -> _LineVectors:
  batch, num_queries, _ = vectors.columns.shape
  *outer_axes, inner = vectors.axes
  outer = jnp.zeros((batch, num_queries, 1), jnp.float32)  # A single line.
  if outer_axes:
    outer = outer_sum(outer_axes, elements.grid[:-1])
  size = -(-num_queries // BLOCK) * BLOCK
  outer = outer.reshape(batch, num_queries, -1)
  return _LineVectors(
    pad(vectors.columns.swapaxes(1, 2), 2, size),
    pad(outer.swapaxes(1, 2), 2, size),
    pad(pad(inner, 2, _power_of_two(elements.grid[-1])), 1, size),
  )


def _join(sums: _LineVectors, num_queries: int, elements: Elements) -> Vectors:
  """The transpose of `_split`."""
  *outer_grid, width = elements.grid
  outer = sums.outer.swapaxes(1, 2)[:, :num_queries]
  outer = outer.reshape(-1, num_queries, *outer_grid)
  axes = marginals(outer, len(outer_grid))
  return Vectors(
    sums.columns.swapaxes(1, 2)[:, :num_queries],
    (*axes, sums.inner[:, :num_queries, :width]),
  )


class _Block:
  """A program's block of queries, which it reads and writes."""

  def __init__(self, lines: _Lines, example: Any, index: Any):
    self.lines = lines  # References.
    self.example = example
    self.slice = pl.ds(index * BLOCK, BLOCK)
    self.num_columns, self.num_lines = lines.columns.shape[1:3]

  def read(self, vectors: _LineVectors) -> _LineVectors:
    """Reads the block into registers; the outer axis stays a reference."""
    return _LineVectors(
      [
        vectors.columns[self.example, k, self.slice]
        for k in range(self.num_columns)
      ],
      vectors.outer,
      vectors.inner[self.example, self.slice, :],
    )

  def scores(self, vectors, line):
    """Returns products [BLOCK, W] of the block with a line's elements."""
    columns, outer, inner = vectors
    position = outer[self.example, line, self.slice][:, None] + inner
    scores = self.lines.scale[self.example, line, :][None, :] * position
    for k, column in enumerate(columns):
      scores += (
        column[:, None] * self.lines.columns[self.example, k, line, :][None, :]
      )
    return scores

  def exists(self, line):
    return self.lines.floor[self.example, line, :][None, :] == 0.0

  def add(self, sums, line, weights, decay=None):
    """Adds a line's elements by weights [BLOCK, W], to sums times `decay`.

    Returns the new sums, and the sum of this line alone, for the outer axis.
    """
    columns, inner = sums
    if decay is not None:
      columns = [column * decay for column in columns]
      inner = inner * decay[:, None]
    columns = [
      column
      + jnp.sum(
        weights * self.lines.columns[self.example, k, line, :][None, :], axis=1
      )
      for k, column in enumerate(columns)
    ]
    scaled = weights * self.lines.scale[self.example, line, :][None, :]
    return (columns, inner + scaled), jnp.sum(scaled, axis=1)

  def zeros(self):
    columns = [_zeros(BLOCK) for _ in range(self.num_columns)]
    return columns, _zeros(BLOCK, self.lines.scale.shape[-1])

  def write(self, sums, out: _LineVectors) -> None:
    columns, inner = sums
    for k, column in enumerate(columns):
      out.columns[self.example, k, self.slice] = column
    out.inner[self.example, self.slice, :] = inner


def _forward_kernel(lines, queries, out, peaks, log_total):
  block = _Block(lines, pl.program_id(0), pl.program_id(1))
  queries = block.read(queries)

  def body(line, carry):
    sums, peak, total = carry
    exists = block.exists(line)
    scores = jnp.where(exists, block.scores(queries, line), FLOOR)
    new_peak = jnp.maximum(peak, jnp.max(scores, axis=1))
    weights = jnp.where(exists, jnp.exp(scores - new_peak[:, None]), 0.0)
    decay = jnp.exp(peak - new_peak)
    sums, line_sum = block.add(sums, line, weights, decay)
    out.outer[block.example, line, block.slice] = line_sum
    peaks[block.example, line, block.slice] = new_peak
    return sums, new_peak, total * decay + jnp.sum(weights, axis=1)

  sums, peak, total = jax.lax.fori_loop(
    0,
    block.num_lines,
    body,
    (block.zeros(), jnp.full(BLOCK, FLOOR, jnp.float32), _zeros(BLOCK)),
  )
  total = jnp.where(total == 0.0, 1.0, total)
  log_total[block.example, block.slice] = peak + jnp.log(total)
  columns, inner = sums
  sums = [column / total for column in columns], inner / total[:, None]
  block.write(sums, out)


class _Backward:
  """The part that both backward kernels have in common."""

  def __init__(self, block: _Block, queries, cotangents, log_total, mean):
    self.block = block
    self.queries = block.read(queries)
    self.cotangents = block.read(cotangents)
    self.log_total = log_total[block.example, block.slice][:, None]
    self.mean = mean[block.example, block.slice][:, None]

  def slopes(self, line):
    """Returns weights and the logits' gradients, [BLOCK, W] each."""
    exists = self.block.exists(line)
    scores = jnp.where(exists, self.block.scores(self.queries, line), FLOOR)
    weights = jnp.where(exists, jnp.exp(scores - self.log_total), 0.0)
    slopes = weights * (self.block.scores(self.cotangents, line) - self.mean)
    return weights, slopes


def _backward_kernel(lines, queries, cotangents, log_total, mean, out):
  block = _Block(lines, pl.program_id(0), pl.program_id(1))
  backward = _Backward(block, queries, cotangents, log_total, mean)

  def body(line, sums):
    _, slopes = backward.slopes(line)
    sums, line_sum = block.add(sums, line, slopes)
    out.outer[block.example, line, block.slice] = line_sum
    return sums

  sums = jax.lax.fori_loop(0, block.num_lines, body, block.zeros())
  block.write(sums, out)


def _elements_kernel(
  lines, queries, cotangents, log_total, mean, columns_out, scale_out
):
  """Computes the elements' gradients: a program takes a line and all blocks."""
  example, line = pl.program_id(0), pl.program_id(1)

  def body(index, carry):
    block = _Block(lines, example, index)
    backward = _Backward(block, queries, cotangents, log_total, mean)
    weights, slopes = backward.slopes(line)
    sums, scale_sum = carry
    total = jnp.zeros_like(weights)
    new_sums = []
    for factor, vectors in (
      (slopes, backward.queries),
      (weights, backward.cotangents),
    ):
      outer = vectors.outer[block.example, line, block.slice][:, None]
      total += factor * (outer + vectors.inner)
      new_sums.append(
        [
          jnp.sum(factor * column[:, None], axis=0)
          for column in vectors.columns
        ]
      )
    sums = [x + y + z for x, y, z in zip(sums, *new_sums, strict=True)]
    return sums, scale_sum + jnp.sum(total, axis=0)

  width = lines.scale.shape[-1]
  zeros = [_zeros(width) for _ in range(lines.columns.shape[1])]
  sums, scale_sum = jax.lax.fori_loop(
    0, log_total.shape[1] // BLOCK, body, (zeros, _zeros(width))
  )
  for k, column in enumerate(sums):
    columns_out[example, k, line, :] = column
  scale_out[example, line, :] = scale_sum


def _call(
  kernel: Any,
  inputs: tuple[Any, ...],
  outputs: tuple[Any, ...],
  num_programs: int,  # For each example.
  interpret: bool,
) -> tuple[Any, ...]:
  """Runs a kernel; outputs are float32, with the shapes of `outputs`."""
  return pl.pallas_call(
    kernel,
    grid=(inputs[0].scale.shape[0], num_programs),
    out_shape=jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), outputs
    ),
    # Without these, Pallas would use Mosaic GPU instead of Triton.
    compiler_params=triton.CompilerParams(num_warps=NUM_WARPS),
    interpret=interpret,
    name='cross_attention' + kernel.__name__.removesuffix('_kernel'),
  )(*inputs)


def forward(
  queries: Vectors, elements: Elements, interpret: bool = False
) -> tuple[Vectors, jax.Array]:
  """Returns one segment's gathered sums, and logs of the totals [B, R, 1]."""
  num_queries = queries.columns.shape[1]
  split = _split(queries, elements)
  sums, peaks, log_total = _call(
    _forward_kernel,
    (_lines(elements), split),
    (split, split.outer, split.columns[:, 0]),
    split.columns.shape[2] // BLOCK,
    interpret,
  )
  # The weights of a line are relative to the peak at that time.
  outer = sums.outer * jnp.exp(peaks - log_total[:, None])
  sums = _join(sums._replace(outer=outer), num_queries, elements)
  return sums, log_total[:, :num_queries, None]


def backward(
  queries: Vectors,
  cotangents: Vectors,
  elements: Elements,
  log_total: jax.Array,
  mean: jax.Array,
  interpret: bool = False,
) -> tuple[Vectors, tuple[jax.Array, jax.Array]]:
  """Computes the gradients.

  Args:
    queries: as for `forward`.
    cotangents: gradients with respect to the gathered sums.
    elements: as for `forward`.
    log_total: [B, R, 1], over all segments.
    mean: [B, R, 1], Σ gathered · cotangent over all segments.
    interpret: as for `forward`.

  Returns:
    The gradients of the queries; and those of the elements' columns [B, K, M]
    and scale [B, M]. The latter have a kernel of their own, which the compiler
    drops if nobody uses them.
  """
  batch, num_queries, _ = queries.columns.shape
  lines, split = _lines(elements), _split(queries, elements)
  size = split.columns.shape[2]
  inputs = (
    lines,
    split,
    _split(cotangents, elements),
    pad(log_total[..., 0], 1, size),
    pad(mean[..., 0], 1, size),
  )
  (sums,) = _call(_backward_kernel, inputs, (split,), size // BLOCK, interpret)
  columns, scale = _call(
    _elements_kernel,
    inputs,
    (lines.columns, lines.scale),
    lines.scale.shape[1],
    interpret,
  )
  width = elements.grid[-1]
  return _join(sums, num_queries, elements), (
    columns[..., :width].reshape(elements.columns.shape),
    scale[..., :width].reshape(batch, -1),
  )
