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
  records: Sequence[Any],
  split: str,
  validation_fraction: float,
  test_fraction: float = 0.0,
) -> Subset:
  """Returns the part of the published training split that a split has.

  'validation' and 'test' have a fraction of the records, 'train' all others.
  """
  size = len(records)
  order = np.random.default_rng(SEED).permutation(size)
  ends = np.cumsum(
    [round(validation_fraction * size), round(test_fraction * size)]
  )
  validation, test, train = np.split(order, ends)
  parts = {'validation': validation, 'test': test, 'train': train}
  return Subset(records, parts[split])
