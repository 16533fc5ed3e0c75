"""Results of a sweep's variants, read from the directories of their runs."""

from collections.abc import Iterable
import statistics

from experiments import history
from scripts.paper.results import Result
from scripts.sweep import plan
from scripts.sweep.plan import Variant

# The last recorded training batches, whose model is nearly the tested one.
TRAIN_FRACTION = 0.1


def collect(
  variants: Iterable[Variant], root: str, command: str
) -> dict[str, Result]:
  """Returns the results, by title, of variants whose runs have all ended.

  `root` is the sweep's directory, `command` its command, to be recorded.
  """
  found = {x.title: _result(x, root, command) for x in variants}
  return {title: x for title, x in found.items() if x is not None}


def _result(variant: Variant, root: str, command: str) -> Result | None:
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
  task = runs[0].task()
  metric = task.best_metric
  (test, *_) = (x for x in task.eval_splits if x != plan.HELD_OUT)
  tried: dict[float, float | None] = {}
  for trial in variant.trials():
    end = finished.get(trial)
    score = None if end is None else end[plan.HELD_OUT][metric]
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


def _seconds(run: history.History) -> float:
  """The time that all launches of a run worked, without the stops."""
  shares = run.time_shares()
  return sum(x for name, x in shares.items() if name != history.LOST)


def _train_score(run: history.History, metric: str) -> float | None:
  values = [r[metric] for r in run.of_split('train') if metric in r]
  last = values[-max(1, round(TRAIN_FRACTION * len(values))) :]
  return statistics.fmean(last) if last else None
