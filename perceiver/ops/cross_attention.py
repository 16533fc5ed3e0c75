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

from perceiver.inputs import ByteArray, Segment
from perceiver.ops import attention, factored, rows

log = logging.getLogger(__name__)

FORMS = ('plain', 'no_kv', 'factored')


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

  @property
  def num_channels(self) -> int:
    return self.segments[0].num_channels


Inputs = PlainInputs | FactoredInputs


def choose_form(
  inputs: ByteArray, num_latents: int, num_heads: int, num_channels: int
) -> str:
  """The form that takes the fewest operations for these shapes.

  Args:
    inputs: arrays or their shapes.
    num_latents: N.
    num_heads: H.
    num_channels: H F.

  Returns:
    One of `FORMS`.
  """
  m, c = inputs.num_elements, inputs.num_channels
  num_rows = num_latents * num_heads
  costs = {
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
  if costs['factored'] == costs['no_kv']:  # There is nothing to factor.
    del costs['factored']
  form = min(costs, key=lambda form: costs[form])
  log.info(
    'Cross-attention to %d x %d inputs: %s (operations: %s).',
    m,
    c,
    form,
    ', '.join(f'{name} {cost:.2g}' for name, cost in costs.items()),
  )
  return form


def prepare(inputs: ByteArray, form: str, dtype: jnp.dtype) -> Inputs:
  """All that does not depend on parameters: done once for all cross-attends.

  Args:
    inputs: the byte array.
    form: one of `FORMS`.
    dtype: what matrix products with M elements are in.

  Returns:
    What `cross_attend` takes.

  Raises:
    ValueError: for an unknown form.
  """
  if form not in FORMS:
    raise ValueError(f'attention={form!r} is none of {("auto", *FORMS)}.')
  if form == 'plain':
    normed = attention.normalize(inputs.to_array().astype(dtype))
    return PlainInputs(normed.astype(dtype), inputs.mask())
  segments = tuple(
    s if s.tables and form == 'factored' else rows.unstructured(s)
    for s in inputs.segments
  )
  return FactoredInputs(
    segments, tuple(rows.elements(s, dtype) for s in segments)
  )


def cross_attend(
  query: jax.Array,
  inputs: Inputs,
  parameters: Parameters,
  tile: int | None = None,
  use_kernel: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
  """Attends to the inputs, in the form that they were prepared for.

  Args:
    query: [B, N, H, F], not scaled.
    inputs: as from `prepare`.
    parameters: in float32.
    tile: rows that the forms without keys and values treat at once; None: what
      suits the backend.
    use_kernel: whether they run as a GPU kernel, where it takes the inputs.

  Returns:
    [B, N, H, F] attended values, in the query's dtype; and of 'plain' the
    logits [B, H, N, M] before mask and softmax, float32.
  """
  if isinstance(inputs, FactoredInputs):
    out = _cross_attend_factored(query, inputs, parameters, tile, use_kernel)
    return out, None
  dtype = inputs.normed.dtype
  p = Parameters(*(x.astype(dtype) for x in parameters))
  normed = inputs.normed * p.scale.reshape(1, 1, -1)
  normed += p.offset.reshape(1, 1, -1)

  def project(w: jax.Array, b: jax.Array) -> jax.Array:
    x = normed @ w + b.reshape(1, 1, -1)
    return x.reshape(*x.shape[:2], *query.shape[2:])  # [B, M, H, F]

  key, value = project(p.key_w, p.key_b), project(p.value_w, p.value_b)
  return attention.attend(query, key, value, inputs.mask)


def _cross_attend_factored(
  query: jax.Array,
  inputs: FactoredInputs,
  parameters: Parameters,
  tile: int | None,
  use_kernel: bool,
) -> jax.Array:
  batch, num_latents, num_heads, width = query.shape
  num_rows = num_latents * num_heads
  per_head = lambda w: w.reshape(-1, num_heads, width)  # [C, H, F]
  # The products with weights are in the compute dtype, the core in float32.
  u = jnp.einsum(
    'bnhf,chf->bnhc',
    query,
    per_head(parameters.key_w).astype(query.dtype),
    preferred_element_type=jnp.float32,
  )
  scale = parameters.scale.astype(jnp.float32).reshape(1, 1, 1, -1)
  offset = parameters.offset.astype(jnp.float32).reshape(1, 1, 1, -1)
  u = (u * scale / math.sqrt(width)).reshape(batch, num_rows, -1)  # [B, R, C]
  queries = tuple(rows.from_channels(u, segment) for segment in inputs.segments)
  tile = tile or factored.rows_per_tile(batch, num_rows, inputs.elements)
  gathered = factored.attend(queries, inputs.elements, tile, use_kernel)
  y = jnp.zeros_like(u)
  for part, segment in zip(gathered, inputs.segments, strict=True):
    y += rows.to_channels(part, segment)
  y = y.reshape(batch, num_latents, num_heads, -1) * scale + offset
  values = jnp.einsum(
    'bnhc,chf->bnhf',
    y.astype(query.dtype),
    per_head(parameters.value_w).astype(query.dtype),
    preferred_element_type=jnp.float32,
  )
  values += parameters.value_b.astype(jnp.float32).reshape(
    1, 1, num_heads, width
  )
  values = jnp.where(_any_element(inputs), values, 0.0)
  return values.astype(query.dtype)


def _any_element(inputs: FactoredInputs) -> jax.Array:
  """Whether an example has any element: bool, [B, 1, 1, 1] or []."""
  masks = [e.mask.any(axis=1) for e in inputs.elements if e.mask is not None]
  if len(masks) < len(inputs.elements):
    return jnp.asarray(True)
  return jnp.stack(masks).any(axis=0)[:, None, None, None]
