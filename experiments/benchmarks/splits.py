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


def indices(split: str, size: int, validation_fraction: float) -> np.ndarray:
  """Returns which records of the published training split are in a split.

  Args:
    split: 'train' or 'validation'.
    size: number of records in the published training split.
    validation_fraction: the fraction of them to hold out.
  """
  order = np.random.default_rng(SEED).permutation(size)
  held_out = round(validation_fraction * size)
  return {'validation': order[:held_out], 'train': order[held_out:]}[split]
