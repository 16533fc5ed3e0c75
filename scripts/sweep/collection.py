"""What came of the variants of a sweep, read from their runs."""

from collections.abc import Iterable
import statistics

from experiments import benchmarks, history
from scripts.paper.results import Result
from scripts.sweep import plan
from scripts.sweep.plan import Variant

# Of the training batches that are recorded, the last, where the model is
# nearly what is tested.
TRAIN_FRACTION = 0.1


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
