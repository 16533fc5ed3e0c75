"""Cross-attention to a byte array in three forms of one function.

- 'plain': keys and values for every input element, as the paper writes it.
- 'no_kv': no keys and values; queries meet the normed inputs themselves.
- 'factored': like 'no_kv', but positions on a grid stay one table per axis.

All forms take the same parameters and agree to rounding. With one head of width
F and normed inputs x̂ = g ∘ (x - μ) ρ + b, the forms without keys and values use
two facts. A softmax over m does not change with terms that are equal for all m:

  q·k_m = (q W_kᵀ ∘ g) · (x_m - μ_m) ρ_m + (a term without m),

and its weights sum to one:

  Σ_m A_m v_m = ((Σ_m A_m (x_m - μ_m) ρ_m) ∘ g + b) W_v + b_v.

Glossary of shapes:
- B: batch; N: latents; M: input elements; C: input channels.
- H: heads; F: channels per head; R = N H: queries.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perceiver.inputs import ByteArray, Segment
from perceiver.ops import attention
from perceiver.ops.cross_attention import factored, hardware
from perceiver.ops.cross_attention.choice import Method, queries_per_tile
from perceiver.ops.cross_attention.elements import (
  Elements,
  from_channels,
  normalize,
  to_channels,
  unstructured,
  Vectors,
)


class InputQueries(NamedTuple):
  """Queries in the space of normed inputs x̂: logits are vectors · x̂ + bias.

  They describe where a cross-attend looks, whatever its form.
  """

  vectors: jax.Array  # [B, N, H, C] float32
  bias: jax.Array  # [B, N, H] float32, equal for all elements.


class Parameters(NamedTuple):
  """Parameters of the inputs' layer norm and of the key and value layers."""

  scale: jax.Array  # [C]
  offset: jax.Array  # [C]
  key_w: jax.Array  # [C, H F]
  key_b: jax.Array  # [H F]
  value_w: jax.Array  # [C, H F]
  value_b: jax.Array  # [H F]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlainInputs:
  """The byte array after layer norm, before its scale and offset."""

  normed: jax.Array  # [B, M, C], in the compute dtype.
  mask: jax.Array | None  # [B, M] bool

  @property
  def num_channels(self) -> int:
    return self.normed.shape[-1]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FactoredInputs:
  """The segments in float32, and their normed elements."""

  segments: tuple[Segment, ...]
  elements: tuple[Elements, ...]
  method: Method = dataclasses.field(metadata={'static': True})

  @property
  def num_channels(self) -> int:
    return self.segments[0].num_channels


Inputs = PlainInputs | FactoredInputs


def prepare(inputs: ByteArray, method: Method, dtype: jnp.dtype) -> Inputs:
  """Computes all that depends on no parameter, once for all cross-attends.

  Args:
    inputs: the byte array.
    method: as from `choose`.
    dtype: dtype of the matrix products with M elements.

  Returns:
    The inputs that `cross_attend` takes.

  Raises:
    TypeError: as `ByteArray.validate`.
  """
  inputs = inputs.as_float32()
  if method.form == 'plain':
    normed = attention.normalize(inputs.to_array().astype(dtype))
    return PlainInputs(normed.astype(dtype), inputs.mask())
  segments = tuple(
    s if s.tables and method.form == 'factored' else unstructured(s)
    for s in inputs.segments
  )
  return FactoredInputs(
    segments, tuple(normalize(s, dtype) for s in segments), method
  )


def cross_attend(
  query: jax.Array, inputs: Inputs, parameters: Parameters
) -> jax.Array:
  """Attends to the inputs, by the method they were prepared for.

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
  """Takes queries [B, N, H, F] to the space of the normed inputs."""
  num_heads, width = query.shape[2:]
  scale, offset = parameters.scale, parameters.offset
  u = _meet_keys(query, parameters.key_w)
  # The offset of the layer norm and the bias of the keys: the same for all m.
  bias = u @ offset.astype(jnp.float32) + jnp.einsum(
    'bnhf,hf->bnh',
    query.astype(jnp.float32),
    parameters.key_b.astype(jnp.float32).reshape(num_heads, width),
  )
  vectors = u * scale.astype(jnp.float32).reshape(1, 1, 1, -1)
  return InputQueries(vectors / math.sqrt(width), bias / math.sqrt(width))


def _meet_keys(query: jax.Array, key_w: jax.Array) -> jax.Array:
  """Multiplies queries [B, N, H, F] by the keys' weights: [B, N, H, C]."""
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
  num_queries = num_latents * num_heads
  u = _meet_keys(query, parameters.key_w)
  # One broadcast each for both uses: their gradients are added before they are
  # summed, and devices exchange one sum, after the last cross-attend.
  scale = attention.broadcast_channels(
    parameters.scale.astype(jnp.float32), u.shape
  )
  offset = attention.broadcast_channels(
    parameters.offset.astype(jnp.float32), u.shape
  )
  u = (u * scale / math.sqrt(width)).reshape(
    batch, num_queries, u.shape[-1]
  )  # [B, R, C]
  queries = tuple(from_channels(u, segment) for segment in inputs.segments)
  gathered = _attend(queries, inputs.elements, inputs.method)
  y = jnp.zeros_like(u)
  for part, segment in zip(gathered, inputs.segments, strict=True):
    y += to_channels(part, segment)
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
  queries: tuple[Vectors, ...],
  elements: tuple[Elements, ...],
  method: Method,
) -> tuple[Vectors, ...]:
  """Runs the core, on each device for its own examples."""

  def attend(queries, elements):
    tile = method.tile or queries_per_tile(
      queries, elements, hardware.of(method.mesh)
    )
    has_examples = elements[0].scale.shape[0] > 0
    kernel = method.kernel if has_examples else None
    return factored.attend(queries, elements, tile, kernel)

  return hardware.on_each_device(attend, method.mesh)(queries, elements)


def _any_element(inputs: FactoredInputs) -> jax.Array:
  """Tells whether each example has an element: bool, [B, 1, 1, 1] or []."""
  masks = [e.mask.any(axis=1) for e in inputs.elements if e.mask is not None]
  if len(masks) < len(inputs.elements):
    return jnp.asarray(True)
  return jnp.stack(masks).any(axis=0)[:, None, None, None]
