"""Cross-attention to a byte array in three forms of one function.

- 'plain': keys and values for every input element, as the paper writes it.
- 'no_kv': neither; queries meet the normed inputs themselves, any input.
- 'factored': likewise, and positions on a grid are never spread over it.

All take the same parameters and agree to rounding. With one head of width F and
normed inputs x̂ = g ∘ (x - μ) ρ + b, the forms without keys and values use that

  q·k_m = (q W_kᵀ ∘ g) · (x_m - μ_m) ρ_m + what is the same for all m,

which a softmax does not see, and that its weights sum to one:

  Σ_m A_m v_m = ((Σ_m A_m (x_m - μ_m) ρ_m) ∘ g + b) W_v + b_v.

Glossary of shapes:
- B: batch; N: latents; M: input elements; C: input channels.
- H: heads; F: channels per head; R = N H: rows.
"""

import dataclasses
import logging
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from perceiver.inputs import ByteArray, Segment
from perceiver.ops import attention
from perceiver.ops.cross_attention import factored, hardware, rows

log = logging.getLogger(__name__)

FORMS = ('plain', 'no_kv', 'factored')


@dataclasses.dataclass(frozen=True)
class Method:
  """How cross-attention is computed: of its result it changes but rounding."""

  form: str  # One of `FORMS`.
  tile: int | None = None  # Rows at once; None: by the hardware.
  kernel: factored.Kernel | None = None  # For the forms without keys.
  mesh: Mesh | None = None  # Whose axis 'data' splits the batch.


class InputQueries(NamedTuple):
  """Queries in the space of normed inputs x̂: logits are vectors · x̂ + bias.

  They tell what a cross-attend looks at, whatever its form.
  """

  vectors: jax.Array  # [B, N, H, C] float32
  bias: jax.Array  # [B, N, H] float32: what is the same for all elements.


class Parameters(NamedTuple):
  """Of the inputs' layer norm and of the linear layers for keys and values."""

  scale: jax.Array  # [C]
  offset: jax.Array  # [C]
  key_w: jax.Array  # [C, H F]
  key_b: jax.Array  # [H F]
  value_w: jax.Array  # [C, H F]
  value_b: jax.Array  # [H F]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlainInputs:
  """The byte array, normed but for the layer norm's scale and offset."""

  normed: jax.Array  # [B, M, C], in the compute dtype.
  mask: jax.Array | None  # [B, M] bool

  @property
  def num_channels(self) -> int:
    return self.normed.shape[-1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FactoredInputs:
  """The segments, and what the core needs of them, float32."""

  segments: tuple[Segment, ...]
  elements: tuple[rows.Elements, ...]
  method: Method = dataclasses.field(metadata={'static': True})

  @property
  def num_channels(self) -> int:
    return self.segments[0].num_channels


Inputs = PlainInputs | FactoredInputs


def choose(
  inputs: ByteArray,
  num_latents: int,
  num_heads: int,
  num_channels: int,
  *,
  form: str = 'auto',
  tile: int | None = None,
  use_kernel: bool = True,
  mesh: Mesh | None = None,
) -> Method:
  """The method that takes the least time for these shapes on the hardware.

  Args:
    inputs: arrays or their shapes.
    num_latents: N.
    num_heads: H.
    num_channels: H F.
    form: one of `FORMS`, to be asked for; 'auto': any.
    tile: rows at once, to be asked for.
    use_kernel: whether a kernel may be used, where the hardware has one that
      takes the inputs.
    mesh: the devices that the program is for; None: JAX's own.

  Returns:
    What `prepare` takes.

  Raises:
    ValueError: for an unknown form.
  """
  if form not in ('auto', *FORMS):
    raise ValueError(f'attention={form!r} is none of {("auto", *FORMS)}.')
  facts = hardware.of(mesh)
  m, c = inputs.num_elements, inputs.num_channels
  num_rows = num_latents * num_heads
  operations = {
    # Keys and values; logits and weighted values.
    'plain': 4 * m * c * num_channels + 4 * num_latents * m * num_channels,
    'no_kv': 4 * num_rows * m * c,
    # Content alone has products; an axis costs about two operations each way.
    'factored': sum(
      4 * num_rows * s.num_elements * (s.content.shape[-1] + 1 + len(s.tables))
      if s.tables
      else 4 * num_rows * s.num_elements * c
      for s in inputs.segments
    ),
  }
  if operations['factored'] == operations['no_kv']:  # Nothing to factor.
    del operations['factored']
  kernels = {name: _kernel(inputs, name, facts, use_kernel) for name in FORMS}
  # In operations: a pass over the logits takes as long as so many of them.
  costs = {
    name: operation
    + facts.operations_per_byte
    * 4
    * num_rows
    * m
    * facts.passes['kernel' if kernels[name] else name]
    for name, operation in operations.items()
  }
  if form == 'auto':
    form = min(costs, key=lambda name: costs[name])
  log.info(
    'Cross-attention to %d x %d inputs on %s: %s%s (operations%s: %s).',
    m,
    c,
    facts.platform,
    form,
    ' by a kernel' if kernels[form] else '',
    ' and memory traffic in their time' if facts.operations_per_byte else '',
    ', '.join(f'{name} {cost:.2g}' for name, cost in costs.items()),
  )
  return Method(form, tile, kernels[form], mesh)


def _kernel(
  inputs: ByteArray, form: str, facts: hardware.Hardware, use_kernel: bool
) -> factored.Kernel | None:
  """The hardware's kernel, if it takes all segments in this form."""
  if not use_kernel or facts.kernel is None or form == 'plain':
    return None
  for segment in inputs.segments:
    has_axes = form == 'factored' and bool(segment.tables)
    grid = segment.grid if has_axes else (segment.num_elements,)
    channels = segment.content.shape[-1] if has_axes else inputs.num_channels
    if not facts.kernel.suits(grid, has_axes, channels + 1):
      return None
  return factored.Kernel(facts.kernel)


def prepare(inputs: ByteArray, method: Method, dtype: jnp.dtype) -> Inputs:
  """All that does not depend on parameters: done once for all cross-attends.

  Args:
    inputs: the byte array.
    method: as from `choose`.
    dtype: what matrix products with M elements are in.

  Returns:
    What `cross_attend` takes.

  Raises:
    TypeError: as `ByteArray.validate`.
  """
  inputs = inputs.as_float32()
  if method.form == 'plain':
    normed = attention.normalize(inputs.to_array().astype(dtype))
    return PlainInputs(normed.astype(dtype), inputs.mask())
  segments = tuple(
    s if s.tables and method.form == 'factored' else rows.unstructured(s)
    for s in inputs.segments
  )
  return FactoredInputs(
    segments, tuple(rows.elements(s, dtype) for s in segments), method
  )


def cross_attend(
  query: jax.Array, inputs: Inputs, parameters: Parameters
) -> jax.Array:
  """Attends to the inputs, by the method that they were prepared for.

  Args:
    query: [B, N, H, F], not scaled.
    inputs: as from `prepare`.
    parameters: in float32.

  Returns:
    [B, N, H, F] attended values, in the query's dtype.
  """
  if isinstance(inputs, FactoredInputs):
    return _cross_attend_factored(query, inputs, parameters)
  dtype = inputs.normed.dtype
  p = Parameters(*(x.astype(dtype) for x in parameters))
  normed = inputs.normed * p.scale.reshape(1, 1, -1)
  normed += p.offset.reshape(1, 1, -1)

  def project(w: jax.Array, b: jax.Array) -> jax.Array:
    x = normed @ w + b.reshape(1, 1, -1)
    return x.reshape(*x.shape[:2], *query.shape[2:])  # [B, M, H, F]

  key, value = project(p.key_w, p.key_b), project(p.value_w, p.value_b)
  return attention.attend(query, key, value, inputs.mask)


def input_queries(query: jax.Array, parameters: Parameters) -> InputQueries:
  """What queries [B, N, H, F] ask of the normed inputs."""
  num_heads, width = query.shape[2:]
  scale, offset = parameters.scale, parameters.offset
  u = _meet_keys(query, parameters.key_w)
  # Of all elements alike: what the layer norm and the keys add.
  bias = u @ offset.astype(jnp.float32) + jnp.einsum(
    'bnhf,hf->bnh',
    query.astype(jnp.float32),
    parameters.key_b.astype(jnp.float32).reshape(num_heads, width),
  )
  vectors = u * scale.astype(jnp.float32).reshape(1, 1, 1, -1)
  return InputQueries(vectors / math.sqrt(width), bias / math.sqrt(width))


def _meet_keys(query: jax.Array, key_w: jax.Array) -> jax.Array:
  """Queries [B, N, H, F] times the weights of the keys: [B, N, H, C]."""
  num_heads, width = query.shape[2:]
  # The products with weights are in the compute dtype, the core in float32.
  return jnp.einsum(
    'bnhf,chf->bnhc',
    query,
    key_w.reshape(-1, num_heads, width).astype(query.dtype),
    preferred_element_type=jnp.float32,
  )


def _cross_attend_factored(
  query: jax.Array, inputs: FactoredInputs, parameters: Parameters
) -> jax.Array:
  batch, num_latents, num_heads, width = query.shape
  num_rows = num_latents * num_heads
  u = _meet_keys(query, parameters.key_w)
  # Spread once: the two parts of its gradient are then added before they are
  # summed, and devices exchange one sum, after the last cross-attend.
  scale = attention.spread(parameters.scale.astype(jnp.float32), u.shape)
  offset = attention.spread(parameters.offset.astype(jnp.float32), u.shape)
  u = (u * scale / math.sqrt(width)).reshape(
    batch, num_rows, u.shape[-1]
  )  # [B, R, C]
  queries = tuple(rows.from_channels(u, segment) for segment in inputs.segments)
  gathered = _attend(queries, inputs.elements, inputs.method)
  y = jnp.zeros_like(u)
  for part, segment in zip(gathered, inputs.segments, strict=True):
    y += rows.to_channels(part, segment)
  y = y.reshape(scale.shape) * scale + offset
  values = jnp.einsum(
    'bnhc,chf->bnhf',
    y.astype(query.dtype),
    parameters.value_w.reshape(-1, num_heads, width).astype(query.dtype),
    preferred_element_type=jnp.float32,
  )
  values += parameters.value_b.astype(jnp.float32).reshape(
    1, 1, num_heads, width
  )
  values = jnp.where(_any_element(inputs), values, 0.0)
  return values.astype(query.dtype)


def _attend(
  queries: tuple[rows.Rows, ...],
  elements: tuple[rows.Elements, ...],
  method: Method,
) -> tuple[rows.Rows, ...]:
  """The core, on each device for the examples that it has."""

  def attend(queries, elements):
    tile = method.tile or factored.rows_per_tile(
      queries, elements, hardware.of(method.mesh)
    )
    has_examples = elements[0].scale.shape[0] > 0
    kernel = method.kernel if has_examples else None
    return factored.attend(queries, elements, tile, kernel)

  return hardware.on_each_device(attend, method.mesh)(queries, elements)


def _any_element(inputs: FactoredInputs) -> jax.Array:
  """Whether an example has any element: bool, [B, 1, 1, 1] or []."""
  masks = [e.mask.any(axis=1) for e in inputs.elements if e.mask is not None]
  if len(masks) < len(inputs.elements):
    return jnp.asarray(True)
  return jnp.stack(masks).any(axis=0)[:, None, None, None]
