"""The form of cross-attention that takes the least time on the hardware.

Glossary of shapes:
- B: batch; M: input elements; C: input channels.
- N: latents; H: heads; F: channels per head; R = N H: queries.
"""

import dataclasses
import logging
import math

from jax.sharding import Mesh

from perceiver.inputs import ByteArray
from perceiver.ops.cross_attention import factored, hardware
from perceiver.ops.cross_attention.elements import (
  Elements,
  Vectors,
  WIDE_COLUMNS,
)

log = logging.getLogger(__name__)

FORMS = ('plain', 'no_kv', 'factored')


@dataclasses.dataclass(frozen=True)
class Method:
  """How cross-attention is computed; results agree to rounding."""

  form: str  # One of `FORMS`.
  tile: int | None = None  # Queries at once; None: by the hardware.
  kernel: factored.Kernel | None = None  # Only for the forms without keys.
  mesh: Mesh | None = None  # Its axis 'data' splits the batch.


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
  """Chooses the method that takes the least time on the hardware.

  Args:
    inputs: arrays or their shapes.
    num_latents: N.
    num_heads: H.
    num_channels: H F.
    form: one of `FORMS`, or 'auto' for the fastest.
    tile: number of queries to process at once; None: by the hardware.
    use_kernel: whether to use a kernel, if the hardware has one for the inputs.
    mesh: the devices that the program is for; None: JAX's own.

  Returns:
    The method, for `prepare`.

  Raises:
    ValueError: for an unknown form.
  """
  if form not in ('auto', *FORMS):
    raise ValueError(f'attention={form!r} is none of {("auto", *FORMS)}.')
  facts = hardware.of(mesh)
  m, c = inputs.num_elements, inputs.num_channels
  num_queries = num_latents * num_heads
  operations = {
    # Keys and values; logits and weighted values.
    'plain': 4 * m * c * num_channels + 4 * num_latents * m * num_channels,
    'no_kv': 4 * num_queries * m * c,
    # Only content has products; an axis costs about two operations each way.
    'factored': sum(
      4
      * num_queries
      * s.num_elements
      * (s.content.shape[-1] + 1 + len(s.tables))
      if s.tables
      else 4 * num_queries * s.num_elements * c
      for s in inputs.segments
    ),
  }
  if operations['factored'] == operations['no_kv']:  # Nothing to factor.
    del operations['factored']
  kernels = {name: _kernel(inputs, name, facts, use_kernel) for name in FORMS}
  # In operations; a pass over the logits counts as those in the same time.
  costs = {
    name: operation
    + facts.operations_per_byte
    * 4
    * num_queries
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
  """Returns the hardware's kernel, if it takes all segments in this form."""
  if not use_kernel or facts.kernel is None or form == 'plain':
    return None
  for segment in inputs.segments:
    has_axes = form == 'factored' and bool(segment.tables)
    grid = segment.grid if has_axes else (segment.num_elements,)
    channels = segment.content.shape[-1] if has_axes else inputs.num_channels
    if not facts.kernel.suits(grid, has_axes, channels + 1):
      return None
  return factored.Kernel(facts.kernel)


def queries_per_tile(
  queries: tuple[Vectors, ...],
  segments: tuple[Elements, ...],
  hardware: hardware.Hardware,
) -> int:
  """Returns the number of queries to process at once on the hardware."""
  batch, num_queries, _ = queries[0].columns.shape
  budget = hardware.tile_logits
  if any(part.axes for part in queries):
    budget = hardware.tile_logits_on_grid
  if max(e.columns.shape[1] for e in segments) > WIDE_COLUMNS:
    budget *= hardware.wide_factor
  elements = batch * sum(math.prod(e.grid) for e in segments)
  count = max(1, min(num_queries, budget // max(1, elements)))
  return -(-num_queries // -(-num_queries // count))  # Tiles of equal size.
