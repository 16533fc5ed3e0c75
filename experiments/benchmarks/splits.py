"""Splits a training set, where a data set has no validation split."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

SEED = 0  # The same examples are held out in all runs.


@dataclasses.dataclass(frozen=True)
class Subset(Sequence[Any]):
  """Some of a sequence's records."""

  records: Sequence[Any]
  indices: np.ndarray  # Of the records, in the subset's order.

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: Any) -> Any:
    return self.records[int(self.indices[index])]


def subset(
  records: Sequence[Any], split: str, validation_fraction: float
) -> Subset:
  """Returns 'train' or 'validation', given the published training split.

  'validation' has a fraction of the records, 'train' all others.
  """
  order = np.random.default_rng(SEED).permutation(len(records))
  held_out = round(validation_fraction * len(records))
  parts = {'validation': order[:held_out], 'train': order[held_out:]}
  return Subset(records, parts[split])
