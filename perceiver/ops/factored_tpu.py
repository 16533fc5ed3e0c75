"""The core of factored cross-attention as a TPU kernel (Pallas, Mosaic).

`forward` and `backward` do for one segment what `factored.attend` does with
arrays. A program takes a block of elements and a block of rows; programs of one
block of rows follow each other, as in any streaming softmax, so that logits and
weights never leave the chip's vector memory.

Of a grid, a block is a few whole lines, its last axis; all axes before it are
one. An element's features are its columns, and ρ in the row of its line, 0 in
those of the others: so one product on the matrix unit gives content, mean and
the lines' part of the logits, and its transpose their sums. Only the part of
the places on a line is left to the vector units. The matrix unit multiplies
bfloat16, so float32 goes there in parts: see `_over_features`.

Glossary of shapes:
- B: batch; R: rows; K: columns; M: elements.
- I: blocks, of L lines with W places, P = L W in all; J: features.
- Q: places after which the lines repeat, whole registers of them.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from perceiver.ops.rows import Elements, FLOOR, marginals, pad, Rows, spread

LANES, SUBLANES = 128, 8  # Of a vector register of 32-bit numbers.
# Of a block: some 2 MB of logits; fewer where float32 features are many.
MAX_ROWS, MAX_PLACES = 512, 1024
MANY_FEATURES, MAX_ROWS_OF_MANY, MAX_PLACES_OF_MANY = 64, 128, 512


class _Blocks(NamedTuple):
  """Elements by block; or gradients of them."""

  features: Any  # [B, I, J, P] float32
  wide: Any  # [B, I, K, P] columns of another dtype; or None.
  scale: Any  # [B, I, 1, P] ρ, where a line's places differ; or None.


class _BlockRows(NamedTuple):
  """Rows as they meet these blocks; or what they gather from them."""

  features: Any  # [B, I, J, R]
  wide: Any  # [B, 1, K, R] or None
  inner: Any  # [B, 1, Q, R]; [B, I, P, R] if a line is cut; or None.


@dataclasses.dataclass(frozen=True)
class _Layout:
  """How a segment's elements are cut into blocks."""

  num_blocks: int  # I
  lines: int  # L
  width: int  # W, filled up.
  grid: tuple[int, int]  # Lines and places that there are.
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
    """[1, 1, L, P], 1 where a place is on a line."""
    return jnp.repeat(jnp.eye(self.lines), self.width, axis=1)[None, None]

  def cut(self, x: jax.Array, value: float = 0.0) -> jax.Array:
    """[..., M] to [..., I, P], filled up."""
    leading = x.shape[:-1]
    x = x.reshape(*leading, *self.grid)
    if self.has_lines:
      size = (self.num_blocks * self.lines, self.width)
    else:
      size = (1, self.num_blocks * self.width)
    x = pad(pad(x, -2, size[0], value), -1, size[1], value)
    return x.reshape(*leading, self.num_blocks, self.places)

  def join(self, x: jax.Array) -> jax.Array:
    """[..., I, P] to [..., M]."""
    leading = x.shape[:-2]
    if self.has_lines:
      x = x.reshape(*leading, -1, self.width)
    else:
      x = x.reshape(*leading, 1, -1)
    return x[..., : self.grid[0], : self.grid[1]].reshape(*leading, -1)


def _round_up(size: int, multiple: int) -> int:
  return -(-size // multiple) * multiple


def _layout(grid: tuple[int, ...], max_places: int) -> _Layout | None:
  """Blocks of whole registers, with as little filling as can be."""
  if len(grid) < 2:
    places = math.prod(grid)
    num_blocks = -(-places // max_places)
    width = _round_up(-(-places // num_blocks), LANES)
    return _Layout(num_blocks, 1, width, (1, places), False)
  num_lines, places = math.prod(grid[:-1]), grid[-1]
  layouts = []
  for width in range(places, _round_up(places, LANES) + 1):
    step = LANES // math.gcd(width, LANES)  # Lines that fill registers.
    if step * width <= max_places:
      lines = min(max_places // (step * width), -(-num_lines // step)) * step
      num_blocks = -(-num_lines // lines)
      layouts.append(
        _Layout(num_blocks, lines, width, (num_lines, places), True)
      )
  return min(layouts, key=lambda x: x.num_blocks * x.places, default=None)


def suits(grid: tuple[int, ...], has_axes: bool, num_columns: int) -> bool:
  """Whether the kernel takes a segment: any but grids of very long lines."""
  del has_axes
  max_places = MAX_PLACES
  if num_columns > MANY_FEATURES:
    max_places = MAX_PLACES_OF_MANY
  return _layout(grid, max_places) is not None


def _blocks(elements: Elements, layout: _Layout, has_axes: bool) -> _Blocks:
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
  return _Blocks(
    pad(joined, 2, _round_up(joined.shape[2], SUBLANES)),
    wide,
    scale[:, :, None, :] if has_axes else None,
  )


def _block_rows(
  rows: Rows, elements: Elements, layout: _Layout, floor: float
) -> _BlockRows:
  """Rows by block, filled up; `floor` is 1 where masks count, else 0."""
  batch, num_rows, num_columns = rows.columns.shape
  num_blocks, lines = layout.num_blocks, layout.lines
  size = _round_up(num_rows, LANES)
  across = lambda x: pad(x.swapaxes(-1, -2), -1, size)  # [..., R, J] to [J, R]
  features, wide, inner = [], None, None
  columns = across(rows.columns)[:, None]  # [B, 1, K, R]
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
    outer = spread(rows.axes[:-1], elements.grid[:-1])
    outer = pad(outer.reshape(batch, num_rows, -1), 2, num_blocks * lines)
    outer = across(outer).reshape(batch, num_blocks, lines, size)
    features.append(outer)
  features.append(jnp.full((batch, num_blocks, 1, size), floor))
  joined = jnp.concatenate(features, axis=2)
  if rows.axes:
    inner = rows.axes[-1]
    if layout.has_lines:
      inner = pad(inner, 2, layout.width)
      inner = jnp.tile(inner, layout.period // layout.width)[:, :, None]
    else:
      inner = layout.cut(inner)  # [B, R, I, P]
    inner = across(inner.swapaxes(1, 2))
  return _BlockRows(
    pad(joined, 2, _round_up(joined.shape[2], SUBLANES)), wide, inner
  )


def _join_rows(
  sums: _BlockRows,
  share: jax.Array,
  rows: Rows,
  elements: Elements,
  layout: _Layout,
) -> Rows:
  """The transpose of `_block_rows`; `share` scales what a block has given."""
  batch, num_rows, num_columns = rows.columns.shape
  num_lines = layout.grid[0]
  back = lambda x: x.swapaxes(-1, -2)[..., :num_rows, :]
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
    outer = back(outer)[..., :num_lines].reshape(batch, num_rows, *outer_grid)
    axes.extend(marginals(outer, len(outer_grid)))
  if rows.axes:
    if layout.has_lines:
      inner = back(sums.inner * last)[:, 0]
      inner = inner.reshape(batch, num_rows, -1, layout.width).sum(axis=2)
      axes.append(inner[..., : layout.grid[1]])
    else:
      inner = back(sums.inner * share).swapaxes(1, 2)  # [B, R, I, P]
      axes.append(layout.join(inner))
  return Rows(columns, tuple(axes))


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


def _scores(elements: _Blocks, rows: _BlockRows) -> jax.Array:
  """[P, R] products of a block's elements with the rows."""
  scores = _over_features(elements.features[0, 0], rows.features[0, 0])
  if elements.wide is not None:
    scores += _over_features(elements.wide[0, 0], rows.wide[0, 0])
  if rows.inner is not None:
    scores += _column(elements.scale[0, 0]) * _repeat(rows, scores.shape)
  return scores


def _repeat(rows: _BlockRows, shape: tuple[int, ...]) -> jax.Array:
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
  elements: _Blocks,
  weights: jax.Array,
  sums: _BlockRows,
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
    inputs: `_Blocks`, and `_BlockRows` or arrays [B, I or 1, ., R].
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
    jax.tree.map(functools.partial(spec, is_elements=isinstance(t, _Blocks)), t)
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
  layout = _layout(grid, max_places)
  assert layout is not None  # As `suits` says.
  blocks = _blocks(elements, layout, bool(rows.axes))
  return layout, blocks, _block_rows(rows, elements, layout, 1.0)


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
  sums = _join_rows(sums, jnp.exp(peaks - log_total), rows, elements, layout)
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
    _block_rows(cotangents, elements, layout, 0.0),
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
  one = jnp.ones((batch, num_blocks, 1, size))
  row_gradients = _join_rows(sums, one, rows, elements, layout)
  (gradients,) = _call(
    _elements_kernel,
    'cross_attention_elements',
    inputs,
    (_shapes(blocks),),
    rows_last=True,
    interpret=interpret,
  )
  return row_gradients, _join_elements(gradients, elements, layout)


def _join_elements(
  gradients: _Blocks, elements: Elements, layout: _Layout
) -> tuple[jax.Array, jax.Array]:
  """The transpose of `_blocks`."""
  num_columns = elements.columns.shape[1]
  features = gradients.features
  if gradients.wide is None:
    columns, features = (
      features[:, :, :num_columns],
      features[:, :, num_columns:],
    )
  else:
    columns = gradients.wide[:, :, :num_columns]
  scale = jnp.zeros((features.shape[0], layout.num_blocks, layout.places))
  if gradients.scale is not None:
    scale += gradients.scale[:, :, 0]
  if layout.has_lines:
    scale += (features[:, :, : layout.lines] * layout.own_line()).sum(axis=2)
  return layout.join(columns.swapaxes(1, 2)), layout.join(scale)
