"""The core of factored cross-attention as a TPU kernel (Pallas, Mosaic).

`forward` and `backward` do for one segment what `factored.attend` does with
arrays. A program takes a block of elements and a block of rows; programs of one
block of rows follow each other, as in any streaming softmax, so that logits and
weights never leave the chip's vector memory. The matrix unit does all products
but those with the axis of a line (see `factored_tpu_blocks`); it multiplies
bfloat16, so float32 goes there in parts (see `_over_features`).

Glossary of shapes: as in `factored_tpu_blocks`.
"""

import functools
import math
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from perceiver.ops.cross_attention.kernels.tpu_blocks import (
  BlockRows,
  Blocks,
  cut_elements,
  cut_rows,
  join_elements,
  join_rows,
  LANES,
  layout_of,
  SUBLANES,
)
from perceiver.ops.cross_attention.rows import Elements, FLOOR, pad, Rows

# Of a block: some 2 MB of logits; fewer where float32 features are many.
MAX_ROWS, MAX_PLACES = 512, 1024
MANY_FEATURES, MAX_ROWS_OF_MANY, MAX_PLACES_OF_MANY = 64, 128, 512


def suits(grid: tuple[int, ...], has_axes: bool, num_columns: int) -> bool:
  """Whether the kernel takes a segment: any but grids of very long lines."""
  del has_axes
  max_places = MAX_PLACES
  if num_columns > MANY_FEATURES:
    max_places = MAX_PLACES_OF_MANY
  return layout_of(grid, max_places) is not None


def _parts(x: jax.Array, count: int) -> list[jax.Array]:
  """x as a sum of bfloat16 numbers, held in float32."""
  parts = []
  for _ in range(count):
    parts.append(x.astype(jnp.bfloat16).astype(jnp.float32))
    x = x - parts[-1]
  return parts


def _dot(
  x: jax.Array, y: jax.Array, contract: tuple[int, int], precision: str
) -> jax.Array:
  return jax.lax.dot_general(
    x,
    y,
    ((contract[:1], contract[1:]), ((), ())),
    precision=precision,
    preferred_element_type=jnp.float32,
  )


def _over_features(x: jax.Array, y: jax.Array) -> jax.Array:
  """[J, P] and [J, R] to [P, R]; of float32 to some 2⁻²⁴.

  (x₀ + x₁ + x₂)(y₀ + y₁ + y₂) but for its smallest terms, as one product of six
  times the length: the matrix unit fills up to 128 anyway.
  """
  precision = 'default'
  if x.dtype == jnp.float32 and _is_short(x):
    (x0, x1, x2), (y0, y1, y2) = _parts(x, 3), _parts(y, 3)
    x = jnp.concatenate([x0, x1, x2, x0, x1, x0]).astype(jnp.bfloat16)
    y = jnp.concatenate([y0, y0, y0, y1, y1, y2]).astype(jnp.bfloat16)
  elif x.dtype == jnp.float32:
    precision = 'highest'
  return _dot(x, y.astype(x.dtype), (0, 0), precision)


def _over(x: jax.Array, y: jax.Array, axis: int) -> jax.Array:
  """[J, P] and [P, R] to [J, R], or [J, R] and [P, R] to [J, P].

  Of float32 to some 2⁻¹⁶: (x₀ + x₁)(y₀ + y₁) without x₁ y₁.
  """
  if x.dtype != jnp.float32:
    return _dot(x, y.astype(x.dtype), (1, axis), 'default')
  if not _is_short(x):
    return _dot(x, y, (1, axis), 'highest')
  x0, x1 = (part.astype(jnp.bfloat16) for part in _parts(x, 2))
  y0, y1 = (part.astype(jnp.bfloat16) for part in _parts(y, 2))
  both = _dot(jnp.concatenate([x0, x1]), y0, (1, axis), 'default')
  rest = _dot(x0, y1, (1, axis), 'default')
  return both[: len(x)] + both[len(x) :] + rest


def _is_short(x: jax.Array) -> bool:
  """Whether products over the rows of x leave the matrix unit half idle."""
  return x.shape[-2] <= MANY_FEATURES


def _column(row: jax.Array) -> jax.Array:
  """[1, P] to [P, 1]."""
  return jnp.broadcast_to(row, (SUBLANES, row.shape[1])).T[:, :1]


def _scores(elements: Blocks, rows: BlockRows) -> jax.Array:
  """[P, R] products of a block's elements with the rows."""
  scores = _over_features(elements.features[0, 0], rows.features[0, 0])
  if elements.wide is not None:
    scores += _over_features(elements.wide[0, 0], rows.wide[0, 0])
  if rows.inner is not None:
    scores += _column(elements.scale[0, 0]) * _repeat(rows, scores.shape)
  return scores


def _repeat(rows: BlockRows, shape: tuple[int, ...]) -> jax.Array:
  """The places' part for all lines of a block: [P, R]."""
  inner = rows.inner[0, 0]
  return jnp.tile(inner, (shape[0] // inner.shape[0], 1))


def _add(ref: Any, value: jax.Array, decay: Any = 1.0) -> None:
  """Adds to a sum over the innermost programs; `decay` is of the sum so far."""

  @pl.when(pl.program_id(2) == 0)
  def _():
    ref[0, 0] = jnp.zeros_like(value)

  ref[0, 0] = ref[0, 0] * decay + value


def _gather(
  elements: Blocks,
  weights: jax.Array,
  sums: BlockRows,
  decay: Any,
  has_lines: bool,
) -> None:
  """Adds what a block gives with weights [P, R]; `decay` is of the sums."""
  sums.features[0, 0] = _over(elements.features[0, 0], weights, 0)
  if elements.wide is not None:
    wide = elements.wide[0, 0]
    _add(sums.wide, _over(wide, weights, 0), decay)
  if elements.scale is not None:
    scaled = weights * _column(elements.scale[0, 0])
    period = sums.inner.shape[2]
    scaled = scaled.reshape(-1, period, scaled.shape[1]).sum(axis=0)
    if has_lines:
      _add(sums.inner, scaled, decay)
    else:
      sums.inner[0, 0] = scaled


def _forward_kernel(elements, rows, sums, peaks, total, running, has_lines):
  @pl.when(pl.program_id(2) == 0)
  def _():
    running[...] = jnp.full_like(running, FLOOR / 2)  # Above what is masked.
    total[0, 0] = jnp.zeros_like(running)

  scores = _scores(elements, rows)
  before = running[...]  # [1, R]
  peak = jnp.maximum(before, scores.max(axis=0, keepdims=True))
  weights = jnp.exp(scores - peak)
  decay = jnp.exp(before - peak)
  total[0, 0] = total[0, 0] * decay + weights.sum(axis=0, keepdims=True)
  running[...] = peaks[0, 0] = peak
  _gather(elements, weights, sums, decay, has_lines)


def _slopes(elements, rows, cotangents, log_total, mean):
  """Weights, and slopes of the logits: [P, R] each."""
  weights = jnp.exp(_scores(elements, rows) - log_total[0, 0])
  return weights, weights * (_scores(elements, cotangents) - mean[0, 0])


def _backward_kernel(
  elements, rows, cotangents, log_total, mean, sums, has_lines
):
  _, slopes = _slopes(elements, rows, cotangents, log_total, mean)
  _gather(elements, slopes, sums, 1.0, has_lines)


def _elements_kernel(elements, rows, cotangents, log_total, mean, gradients):
  weights, slopes = _slopes(elements, rows, cotangents, log_total, mean)
  _add(
    gradients.features,
    _over(rows.features[0, 0], slopes, 1)
    + _over(cotangents.features[0, 0], weights, 1),
  )
  if elements.wide is not None:
    _add(
      gradients.wide,
      _over(rows.wide[0, 0], slopes, 1)
      + _over(cotangents.wide[0, 0], weights, 1),
    )
  if elements.scale is not None:
    both = slopes * _repeat(rows, slopes.shape)
    both += weights * _repeat(cotangents, slopes.shape)
    column = jnp.sum(both, axis=1, keepdims=True)  # [P, 1]
    row = jnp.broadcast_to(column, (column.shape[0], LANES)).T[:1]
    _add(gradients.scale, row)


def _call(
  kernel: Any,
  name: str,
  inputs: tuple[Any, ...],
  outputs: tuple[Any, ...],
  *,
  rows_last: bool = False,
  interpret: bool,
  scratch: bool = False,
) -> Any:
  """Runs a kernel over examples, blocks of rows and blocks of elements.

  Args:
    kernel: a function of references, each [1, 1, ., .].
    name: of the kernel, for profiles.
    inputs: `Blocks`, and `BlockRows` or arrays [B, I or 1, ., R].
    outputs: shapes of the same kind.
    rows_last: whether blocks of rows, not those of elements, are innermost.
    interpret: whether to run in Pallas's interpreter.
    scratch: whether the kernel wants a row of numbers that stays.
  """
  batch, num_blocks = inputs[0].features.shape[:2]
  size = inputs[1].features.shape[-1]
  max_rows = MAX_ROWS if _is_short(inputs[0].features) else MAX_ROWS_OF_MANY
  width = next(n for n in range(max_rows, 0, -LANES) if size % n == 0)
  order = (
    (lambda b, r, i: (b, r, i)) if not rows_last else lambda b, i, r: (b, r, i)
  )

  def spec(x, is_elements):
    per_block = x.shape[1] > 1

    def place(*ids):
      b, r, i = order(*ids)
      return (b, i if per_block else 0, 0, 0 if is_elements else r)

    return pl.BlockSpec(
      (1, 1, x.shape[2], x.shape[3] if is_elements else width), place
    )

  specs = lambda trees: tuple(
    jax.tree.map(functools.partial(spec, is_elements=isinstance(t, Blocks)), t)
    for t in trees
  )
  steps = order(batch, size // width, num_blocks)
  return pl.pallas_call(
    kernel,
    grid=steps,
    in_specs=specs(inputs),
    out_specs=specs(outputs),
    out_shape=outputs,
    scratch_shapes=[pltpu.VMEM((1, width), jnp.float32)] if scratch else (),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'parallel', 'arbitrary')
    ),
    interpret=interpret,
    # How often the compiled body runs, for `scripts.plan`.
    metadata={'steps': str(math.prod(steps))},
    name=name,
  )(*inputs)


def _shapes(tree: Any) -> Any:
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), tree
  )


def _prepare(rows: Rows, elements: Elements):
  max_places = MAX_PLACES
  if elements.columns.dtype == jnp.float32 and not _is_short(elements.columns):
    max_places = MAX_PLACES_OF_MANY
  grid = elements.grid if rows.axes else elements.scale.shape[1:]
  layout = layout_of(grid, max_places)
  assert layout is not None  # As `suits` says.
  blocks = cut_elements(elements, layout, bool(rows.axes))
  return layout, blocks, cut_rows(rows, elements, layout, 1.0)


def forward(
  rows: Rows, elements: Elements, interpret: bool = False
) -> tuple[Rows, jax.Array]:
  """One segment's softmax: what rows gather, and log of the total [B, R, 1]."""
  layout, blocks, block_rows = _prepare(rows, elements)
  batch, num_blocks, _, size = block_rows.features.shape
  line = lambda n: jax.ShapeDtypeStruct((batch, n, 1, size), jnp.float32)
  sums, peaks, total = _call(
    functools.partial(_forward_kernel, has_lines=layout.has_lines),
    'cross_attention_forward',
    (blocks, block_rows),
    (_shapes(block_rows), line(num_blocks), line(1)),
    scratch=True,
    interpret=interpret,
  )
  total = jnp.where(total == 0.0, 1.0, total)
  log_total = peaks[:, -1:] + jnp.log(total)  # [B, 1, 1, R]
  sums = join_rows(sums, jnp.exp(peaks - log_total), rows, elements, layout)
  return sums, log_total[:, 0, 0, : rows.columns.shape[1], None]


def backward(
  rows: Rows,
  cotangents: Rows,
  elements: Elements,
  log_total: jax.Array,
  mean: jax.Array,
  interpret: bool = False,
) -> tuple[Rows, tuple[jax.Array, jax.Array]]:
  """Gradients.

  Args:
    rows: as for `forward`.
    cotangents: of what they gathered.
    elements: as for `forward`.
    log_total: [B, R, 1], over all segments.
    mean: [B, R, 1], Σ gathered · cotangent over all segments.
    interpret: as for `forward`.

  Returns:
    Those of the rows; and of the elements' columns [B, K, M] and scale [B, M],
    by a kernel of their own: the compiler drops it if nobody asks for them.
  """
  layout, blocks, block_rows = _prepare(rows, elements)
  batch, num_blocks, _, size = block_rows.features.shape
  across = lambda x: pad(x.swapaxes(1, 2)[:, None], 3, size)  # [B, 1, 1, R]
  inputs = (
    blocks,
    block_rows,
    cut_rows(cotangents, elements, layout, 0.0),
    across(log_total),
    across(mean),
  )
  (sums,) = _call(
    functools.partial(_backward_kernel, has_lines=layout.has_lines),
    'cross_attention_backward',
    inputs,
    (_shapes(block_rows),),
    interpret=interpret,
  )
  one = jnp.ones((batch, num_blocks, 1, size), jnp.float32)
  row_gradients = join_rows(sums, one, rows, elements, layout)
  (gradients,) = _call(
    _elements_kernel,
    'cross_attention_elements',
    inputs,
    (_shapes(blocks),),
    rows_last=True,
    interpret=interpret,
  )
  return row_gradients, join_elements(gradients, elements, layout)
