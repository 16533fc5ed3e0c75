"""Results of a sweep's variants, read from the directories of their runs."""

from collections.abc import Iterable, Iterator
import statistics

import numpy as np

from experiments import history
from scripts.paper import examples
from scripts.paper.results import Result
from scripts.shared import measurements
from scripts.sweep import plan
from scripts.sweep.plan import Variant

# The last recorded training batches, whose model is nearly the tested one.
TRAIN_FRACTION = 0.1


def collect(
  variants: Iterable[Variant], root: str, command: str, pace: float
) -> dict[str, Result]:
  """Returns the results, by title, of variants whose runs have all ended.

  A variant has one for each split that it is tested on; the titles of others
  than the first one end with '/SPLIT'.

  Args:
    variants: of the sweep.
    root: the sweep's directory.
    command: the sweep's, to be recorded.
    pace: of its devices, to be recorded.

  Raises:
    ValueError: if a run has no predictions of all test examples.
  """
  return dict(
    found for x in variants for found in _results(x, root, command, pace)
  )


def _results(
  variant: Variant, root: str, command: str, pace: float
) -> Iterator[tuple[str, Result]]:
  rate = plan.best(variant, root)
  if rate is None:
    return
  runs = variant.runs(rate)
  ends = {run: run.evaluations(root) for run in [*variant.trials(), *runs]}
  finished = {run: end for run, end in ends.items() if end is not None}
  if not set(runs) <= finished.keys():
    return
  histories = {run: history.read(run.workdir(root)) for run in finished}
  task = runs[0].task()
  metric = task.best_metric
  scores = lambda split: [finished[run][split][metric] for run in runs]
  tried: dict[float, float | None] = {}
  for trial in variant.trials():
    end = finished.get(trial)
    score = None if end is None else end[plan.HELD_OUT][metric]
    tried[trial.learning_rate] = score
  own = runs if variant.rate_of else histories
  launches = [histories[run].launches[-1] for run in own]
  hours = sum(histories[run].seconds_at_work() for run in own) / 3600
  for i, split in enumerate(x for x in task.eval_splits if x != plan.HELD_OUT):
    yield (
      f'{variant.title}/{split}' if i else variant.title,
      Result(
        metric,
        scores(split),
        _train_score(histories[runs[0]], metric),
        rate,
        tried,
        scores(plan.HELD_OUT) if variant.trials() else [],
        0.0 if i else hours,
        pace,
        command,
        list(dict.fromkeys(x['commit'] for x in launches)),
        _device(launches[0]),
        _examples([histories[run] for run in runs], split),
      ),
    )


def _device(launch: history.Record) -> str:
  """Names a launch's devices; a CPU by this machine's processor."""
  devices = ', '.join(sorted(set(launch['devices'])))
  return measurements.processor() if devices == 'cpu' else devices


def _examples(runs: list[history.History], split: str) -> examples.Examples:
  """Results of each example of a split, from the runs of all seeds."""
  predictions = []
  for run in runs:
    found = run.predictions.get(split)
    end = run.of_split(split)[-1]
    if (
      found is None
      or int(found['step']) != end['step']
      or not np.array_equal(found['record'], np.arange(end['count']))
    ):
      raise ValueError(
        f'{run.workdir} has no predictions_{split}.npz of all {end["count"]}'
        f' examples at step {end["step"]}: evaluate it again (--mode=eval).'
      )
    predictions.append(found)
  if 'all_scores' in predictions[0]:
    return examples.ranked(predictions)
  return examples.classified(predictions)


def _train_score(run: history.History, metric: str) -> float | None:
  values = [r[metric] for r in run.of_split('train') if metric in r]
  last = values[-max(1, round(TRAIN_FRACTION * len(values))) :]
  return statistics.fmean(last) if last else None
