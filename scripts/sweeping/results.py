"""What came of the variants of a sweep: read from the runs, kept in a file."""

from collections.abc import Iterable, Mapping
import dataclasses
import json
import math
import pathlib
import statistics
from typing import Any

from experiments import benchmarks, history, storage
from scripts.sweeping import plan
from scripts.sweeping.plan import Variant

RESULTS = pathlib.Path(__file__).parent.parent.parent / (
  'experiments/results/small.json'
)
# Of the training batches that are recorded, the last, where the model is
# nearly what is tested.
TRAIN_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class Result:
  """Of a variant, trained with the learning rate that was picked."""

  metric: str  # What the scores are: 'top1' or 'mAP', 0 to 1.
  scores: list[float]  # On the test set, for each seed.
  num_test: int  # Examples.
  train: float | None  # The score on the last batches, augmented, of seed 0.
  learning_rate: float
  tried: dict[float, float | None]  # Held-out scores; None: it failed.
  hours: float  # Of all its runs together.
  command: str
  commit: str
  device: str

  @property
  def score(self) -> float:
    """The mean of the seeds'."""
    return statistics.fmean(self.scores)

  @property
  def standard_error(self) -> float:
    """Of the score.

    For top-1 that of a fraction of as many test examples, and the seeds' own
    where there are several. mAP is no fraction of the examples: there it is the
    seeds' alone, NaN for one.
    """
    variance = 0.0
    if self.metric == 'top1':
      variance = self.score * (1 - self.score) / self.num_test
    if len(self.scores) > 1:
      variance += statistics.variance(self.scores) / len(self.scores)
    elif self.metric != 'top1':
      return math.nan
    return math.sqrt(variance)


def collect(
  variants: Iterable[Variant], root: str, command: str
) -> dict[str, Result]:
  """Of the variants whose runs have all ended, by 'config:variant'.

  Args:
    variants: to look for.
    root: the sweep's directory.
    command: that made them.
  """
  found = {}
  for variant in variants:
    result = _of(variant, root, command)
    if result is not None:
      found[variant.title] = result
  return found


def _of(variant: Variant, root: str, command: str) -> Result | None:
  rate = plan.best(variant, root)
  if rate is None:
    return None
  runs = variant.runs(rate)
  ends = {
    run: run.evaluations(root)
    for run in dict.fromkeys([*variant.trials(), *runs])
  }
  finished = {run: end for run, end in ends.items() if end is not None}
  if not set(runs) <= finished.keys():
    return None
  histories = {run: history.read(run.workdir(root)) for run in finished}
  task = benchmarks.create(**runs[0].config().task)
  metric = task.best_metric
  held_out, test = task.eval_splits[0], task.eval_splits[-1]
  tried: dict[float, float | None] = {}
  for trial in variant.trials():
    score = finished[trial][held_out][metric] if trial in finished else None
    tried[trial.learning_rate] = score
  launch = histories[runs[0]].launches[-1]
  return Result(
    metric,
    [finished[run][test][metric] for run in runs],
    finished[runs[0]][test]['count'],
    _train_score(histories[runs[0]], metric),
    rate,
    tried,
    sum(map(_seconds, histories.values())) / 3600,
    command,
    launch['commit'],
    ', '.join(sorted(set(launch['devices']))),
  )


def _seconds(of: history.History) -> float:
  """That a run worked, in all launches; not what it lost to stops."""
  shares = of.time_shares()
  return sum(x for name, x in shares.items() if name != history.LOST)


def _train_score(of: history.History, metric: str) -> float | None:
  values = [r[metric] for r in of.of_split('train') if metric in r]
  last = values[-max(1, round(TRAIN_FRACTION * len(values))) :]
  return statistics.fmean(last) if last else None


def read(path: str | pathlib.Path) -> dict[str, Result]:
  """What `write` wrote; {} where there is no such file.

  Raises:
    ValueError: if it holds something else.
  """
  file = pathlib.Path(path)
  if not file.exists():
    return {}
  try:
    return {
      title: Result(**(fields | {'tried': _rates(fields['tried'])}))
      for title, fields in json.loads(file.read_text()).items()
    }
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} has no results of a sweep: {error}') from error


def _rates(tried: Mapping[str, Any]) -> dict[float, Any]:
  return {float(rate): score for rate, score in tried.items()}


def write(path: str | pathlib.Path, results: Mapping[str, Result]) -> None:
  """Writes results, beside those of other variants that are there already."""
  merged = read(path) | dict(results)
  fields = {title: dataclasses.asdict(x) for title, x in merged.items()}
  storage.write(storage.path(str(path)), json.dumps(fields, indent=1) + '\n')
