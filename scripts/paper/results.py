"""Results of a sweep's variants, and the file that keeps them."""

from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib
import statistics

from experiments import storage

RESULTS = pathlib.Path(__file__).parent.parent.parent / (
  'experiments/results/small.json'
)


@dataclasses.dataclass(frozen=True)
class Result:
  """Scores of one variant, trained with the learning rate that was picked."""

  metric: str  # 'top1' or 'mAP'; its scores are from 0 to 1.
  scores: list[float]  # On the test set, for each seed.
  num_test: int  # Examples in the test set.
  train: float | None  # The score on the last batches, augmented, of seed 0.
  learning_rate: float
  tried: dict[float, float | None]  # Held-out scores; None: it failed.
  hours: float  # All its runs together.
  command: str
  commit: str
  device: str

  @property
  def score(self) -> float:
    """The mean score of the seeds."""
    return statistics.fmean(self.scores)

  @property
  def standard_error(self) -> float:
    """The standard error of the score.

    For top-1 it is that of a fraction of the test examples, together with that
    of the seeds if there are several. mAP is no fraction of the examples, so
    its error is that of the seeds alone, and NaN for one seed.
    """
    variance = 0.0
    if self.metric == 'top1':
      variance = self.score * (1 - self.score) / self.num_test
    if len(self.scores) > 1:
      variance += statistics.variance(self.scores) / len(self.scores)
    elif self.metric != 'top1':
      return math.nan
    return math.sqrt(variance)


def read(path: str | pathlib.Path) -> dict[str, Result]:
  """Returns the results by 'config:variant'; {} if there is no such file.

  Raises:
    ValueError: if the file holds something else.
  """
  file = pathlib.Path(path)
  if not file.exists():
    return {}
  found = {}
  try:
    for title, fields in json.loads(file.read_text()).items():
      tried = {float(rate): score for rate, score in fields['tried'].items()}
      found[title] = Result(**fields | {'tried': tried})
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} has no results of a sweep: {error}') from error
  return found


def write(path: str | pathlib.Path, results: Mapping[str, Result]) -> None:
  """Adds results to a file; those of other variants there are kept."""
  merged = read(path) | dict(results)
  fields = {title: dataclasses.asdict(x) for title, x in merged.items()}
  storage.write(storage.path(str(path)), json.dumps(fields, indent=1) + '\n')
