"""Results of a sweep's variants, and the files that keep them."""

from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib
import statistics

import numpy as np

from experiments import storage
from scripts.paper import examples
from scripts.paper.examples import Examples

RESULTS = pathlib.Path(__file__).parent.parent.parent / (
  'experiments/results/small.json'
)


@dataclasses.dataclass(frozen=True)
class Result:
  """Scores of one variant, trained with the learning rate that was picked."""

  metric: str  # 'top1' or 'mAP'; its scores are from 0 to 1.
  scores: list[float]  # On the test set, for each seed.
  train: float | None  # The score on the last batches, augmented, of seed 0.
  learning_rate: float
  # Held-out scores of the trials; None: it failed.
  tried: dict[float, float | None]
  held_out: list[float]  # Scores of the seeds; none: nothing is held out.
  hours: float  # All its runs together.
  pace: float  # Seconds of the step of `scripts.sweep.pace` where it ran.
  command: str
  commits: list[str]  # Its runs may be of several.
  device: str
  # In a file of their own.
  examples: Examples = dataclasses.field(compare=False, repr=False)

  @property
  def score(self) -> float:
    """The mean score of the seeds."""
    return statistics.fmean(self.scores)

  @property
  def standard_error(self) -> float:
    """The standard error of the score: of the test examples and the seeds."""
    variance = self.examples.by_score.variance()
    if len(self.scores) > 1:
      variance += statistics.variance(self.scores) / len(self.scores)
    return math.sqrt(variance)


def read(path: str | pathlib.Path) -> dict[str, Result]:
  """Returns the results by 'config:variant'; {} if there is no such file.

  Raises:
    ValueError: if the file holds something else, or the one with the examples
      does not belong to it.
  """
  file = pathlib.Path(path)
  if not file.exists():
    return {}
  kept = examples.read(_examples_of(file))
  found = {}
  try:
    for title, fields in json.loads(file.read_text()).items():
      tried = {float(rate): score for rate, score in fields['tried'].items()}
      found[title] = Result(
        **fields | {'tried': tried, 'examples': kept[title]}
      )
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} has no results of a sweep: {error!r}') from error
  for title, result in found.items():
    if not np.allclose(
      result.examples.by_score.scores(), result.scores, atol=1e-6
    ):
      raise ValueError(
        f'{path} and {_examples_of(file)} are of different sweeps: the examples'
        f' of {title} give other scores.'
      )
  return found


def write(path: str | pathlib.Path, results: Mapping[str, Result]) -> None:
  """Adds results to the files; those of other variants there are kept."""
  merged = read(path) | dict(results)
  examples.write(
    _examples_of(pathlib.Path(path)), {t: x.examples for t, x in merged.items()}
  )
  fields = {
    title: {
      field.name: getattr(x, field.name)
      for field in dataclasses.fields(x)
      if field.name != 'examples'
    }
    for title, x in merged.items()
  }
  storage.write(storage.path(str(path)), json.dumps(fields, indent=1) + '\n')


def _examples_of(path: pathlib.Path) -> pathlib.Path:
  return path.with_suffix('.npz')
