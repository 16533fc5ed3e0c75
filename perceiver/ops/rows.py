"""What attention in factored form works on.

Glossary of shapes:
- B: batch; R: rows, one for each latent and head; M: elements of a segment.
- K: columns, the content channels and one for the mean; S: size of a grid axis.
"""

import dataclasses
from typing import NamedTuple

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Elements:
  """What the core needs to know of a segment's elements.

  All in float32, but wide columns in the compute dtype.
  """

  columns: jax.Array  # [B, K, M]: ρ content, then ρ μ.
  scale: jax.Array  # [B, M]: ρ
  mask: jax.Array | None  # [B, M] bool, True where an element exists.
  grid: tuple[int, ...] = dataclasses.field(metadata={'static': True})


class Rows(NamedTuple):
  """One segment's part of each row: of a query, a sum, or a cotangent."""

  columns: jax.Array  # [B, R, K]
  axes: tuple[jax.Array, ...]  # [B, R, S] for each axis with a table.
