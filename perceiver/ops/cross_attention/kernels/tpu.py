"""The core of factored cross-attention as a TPU kernel (Pallas, Mosaic).

`forward` and `backward` compute `factored.attend` for one segment. A program
takes a block of elements and a block of queries. Programs with the same queries
follow each other, as in a streaming softmax, so logits and weights never leave
the chip's vector memory. The matrix unit does all products except those with
the axis of a line (see `tpu_blocks`). It multiplies bfloat16, so float32 goes
there in parts (see `_over_features`).

The glossary of shapes is that of `tpu_blocks`.
"""

import functools
import math
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from perceiver.ops.cross_attention.elements import Elements, FLOOR, pad, Vectors
from perceiver.ops.cross_attention.kernels.tpu_blocks import (
  Blocks,
  BlockVectors,
  cut_elements,
  cut_vectors,
  join_elements,
  join_vectors,
  LANES,
  layout_of,
  SUBLANES,
)

# A block's size: some 2 MB of logits; less where float32 features are many.
MAX_QUERIES, MAX_PLACES = 512, 1024
MANY_FEATURES, MAX_QUERIES_OF_MANY, MAX_PLACES_OF_MANY = 64, 128, 512


def suits(grid: tuple[int, ...], has_axes: bool, num_columns: int) -> bool:
  """Tells whether the kernel takes a segment: any without very long lines."""
  del has_axes
  max_places = MAX_PLACES
  if num_columns > MANY_FEATURES:
    max_places = MAX_PLACES_OF_MANY
  return layout_of(grid, max_places) is not None


def _parts(x: jax.Array, count: int) -> list[jax.Array]:
  """Writes x as a sum of bfloat16 numbers, held in float32."""
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
  """Multiplies [J, P] and [J, R] to [P, R]; float32 to a relative 2⁻²⁴.

  For float32 it is (x₀ + x₁ + x₂)(y₀ + y₁ + y₂) without the smallest terms, as
  one product of six times the length: the matrix unit pads to 128 anyway.
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
  """Multiplies [J, P] and [P, R] to [J, R], or [J, R] and [P, R] to [J, P].

  Float32 is multiplied to a relative 2⁻¹⁶: (x₀ + x₁)(y₀ + y₁) without x₁ y₁.
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
  """Tells whether products over x's features underfill the matrix unit."""
  return x.shape[-2] <= MANY_FEATURES


def _column(row: jax.Array) -> jax.Array:
  """Transposes [1, P] to [P, 1]."""
  return jnp.broadcast_to(row, (SUBLANES, row.shape[1])).T[:, :1]


def _scores(elements: Blocks, vectors: BlockVectors) -> jax.Array:
  """Returns products [P, R] of a block's elements with the vectors."""
  scores = _over_features(elements.features[0, 0], vectors.features[0, 0])
  if elements.wide is not None:
    scores += _over_features(elements.wide[0, 0], vectors.wide[0, 0])
  if vectors.inner is not None:
    scores += _column(elements.scale[0, 0]) * _repeat(vectors, scores.shape)
  return scores


def _repeat(vectors: BlockVectors, shape: tuple[int, ...]) -> jax.Array:
  """Repeats the places' part for all lines of a block: [P, R]."""
  inner = vectors.inner[0, 0]
  return jnp.tile(inner, (shape[0] // inner.shape[0], 1))


def _add(ref: Any, value: jax.Array, decay: Any = 1.0) -> None:
  """Adds to a sum over the innermost programs, after scaling it by `decay`."""

  @pl.when(pl.program_id(2) == 0)
  def _():
    ref[0, 0] = jnp.zeros_like(value)

  ref[0, 0] = ref[0, 0] * decay + value


def _gather(
  elements: Blocks,
  weights: jax.Array,
  sums: BlockVectors,
  decay: Any,
  has_lines: bool,
) -> None:
  """Adds a block's elements by weights [P, R], to sums times `decay`."""
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


def _forward_kernel(elements, queries, sums, peaks, total, running, has_lines):
  @pl.when(pl.program_id(2) == 0)
  def _():
    running[...] = jnp.full_like(running, FLOOR / 2)  # Above masked logits.
    total[0, 0] = jnp.zeros_like(running)

  scores = _scores(elements, queries)
  before = running[...]  # [1, R]
  peak = jnp.maximum(before, scores.max(axis=0, keepdims=True))
  weights = jnp.exp(scores - peak)
  decay = jnp.exp(before - peak)
  total[0, 0] = total[0, 0] * decay + weights.sum(axis=0, keepdims=True)
  running[...] = peaks[0, 0] = peak
  _gather(elements, weights, sums, decay, has_lines)


def _slopes(elements, queries, cotangents, log_total, mean):
  """Returns weights and the logits' gradients, [P, R] each."""
  weights = jnp.exp(_scores(elements, queries) - log_total[0, 0])
  return weights, weights * (_scores(elements, cotangents) - mean[0, 0])


def _backward_kernel(
  elements, queries, cotangents, log_total, mean, sums, has_lines
):
  _, slopes = _slopes(elements, queries, cotangents, log_total, mean)
  _gather(elements, slopes, sums, 1.0, has_lines)


def _elements_kernel(elements, queries, cotangents, log_total, mean, gradients):
  weights, slopes = _slopes(elements, queries, cotangents, log_total, mean)
  _add(
    gradients.features,
    _over(queries.features[0, 0], slopes, 1)
    + _over(cotangents.features[0, 0], weights, 1),
  )
  if elements.wide is not None:
    _add(
      gradients.wide,
      _over(queries.wide[0, 0], slopes, 1)
      + _over(cotangents.wide[0, 0], weights, 1),
    )
  if elements.scale is not None:
    both = slopes * _repeat(queries, slopes.shape)
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
  queries_last: bool = False,
  interpret: bool,
  scratch: bool = False,
) -> Any:
  """Runs a kernel over examples, blocks of queries and blocks of elements.

  Args:
    kernel: a function of references, each [1, 1, ., .].
    name: the kernel's name in profiles.
    inputs: `Blocks`, and `BlockVectors` or arrays [B, I or 1, ., R].
    outputs: shapes of such trees.
    queries_last: whether blocks of queries are innermost, not of elements.
    interpret: whether to run in Pallas's interpreter.
    scratch: whether the kernel takes a scratch array [1, R].
  """
  batch, num_blocks = inputs[0].features.shape[:2]
  size = inputs[1].features.shape[-1]
  max_rows = (
    MAX_QUERIES if _is_short(inputs[0].features) else MAX_QUERIES_OF_MANY
  )
  width = next(n for n in range(max_rows, 0, -LANES) if size % n == 0)
  order = (
    (lambda b, r, i: (b, r, i))
    if not queries_last
    else lambda b, i, r: (b, r, i)
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


def _prepare(queries: Vectors, elements: Elements):
  max_places = MAX_PLACES
  if elements.columns.dtype == jnp.float32 and not _is_short(elements.columns):
    max_places = MAX_PLACES_OF_MANY
  grid = elements.grid if queries.axes else elements.scale.shape[1:]
  layout = layout_of(grid, max_places)
  assert layout is not None  # `suits` has checked it.
  blocks = cut_elements(elements, layout, bool(queries.axes))
  return layout, blocks, cut_vectors(queries, elements, layout, 1.0)


def forward(
  queries: Vectors, elements: Elements, interpret: bool = False
) -> tuple[Vectors, jax.Array]:
  """Returns one segment's gathered sums, and logs of the totals [B, R, 1]."""
  layout, blocks, block_queries = _prepare(queries, elements)
  batch, num_blocks, _, size = block_queries.features.shape
  line = lambda n: jax.ShapeDtypeStruct((batch, n, 1, size), jnp.float32)
  sums, peaks, total = _call(
    functools.partial(_forward_kernel, has_lines=layout.has_lines),
    'cross_attention_forward',
    (blocks, block_queries),
    (_shapes(block_queries), line(num_blocks), line(1)),
    scratch=True,
    interpret=interpret,
  )
  total = jnp.where(total == 0.0, 1.0, total)
  log_total = peaks[:, -1:] + jnp.log(total)  # [B, 1, 1, R]
  share = jnp.exp(peaks - log_total)
  sums = join_vectors(sums, share, queries, elements, layout)
  return sums, log_total[:, 0, 0, : queries.columns.shape[1], None]


def backward(
  queries: Vectors,
  cotangents: Vectors,
  elements: Elements,
  log_total: jax.Array,
  mean: jax.Array,
  interpret: bool = False,
) -> tuple[Vectors, tuple[jax.Array, jax.Array]]:
  """Computes the gradients; the signature is that of `gpu.backward`."""
  layout, blocks, block_queries = _prepare(queries, elements)
  batch, num_blocks, _, size = block_queries.features.shape
  across = lambda x: pad(x.swapaxes(1, 2)[:, None], 3, size)  # [B, 1, 1, R]
  inputs = (
    blocks,
    block_queries,
    cut_vectors(cotangents, elements, layout, 0.0),
    across(log_total),
    across(mean),
  )
  (sums,) = _call(
    functools.partial(_backward_kernel, has_lines=layout.has_lines),
    'cross_attention_backward',
    inputs,
    (_shapes(block_queries),),
    interpret=interpret,
  )
  one = jnp.ones((batch, num_blocks, 1, size), jnp.float32)
  query_gradients = join_vectors(sums, one, queries, elements, layout)
  (gradients,) = _call(
    _elements_kernel,
    'cross_attention_elements',
    inputs,
    (_shapes(blocks),),
    queries_last=True,
    interpret=interpret,
  )
  return query_gradients, join_elements(gradients, elements, layout)
