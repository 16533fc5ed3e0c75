"""How long a sweep will take here, judging by one that has been done."""

from collections.abc import Mapping, Sequence
import statistics

from experiments import history
from scripts.paper.results import Result
from scripts.sweep import plan
from scripts.sweep.plan import Variant


def text(
  variants: Sequence[Variant],
  root: str,
  known: Mapping[str, Result],
  pace: float,
  num_devices: int,
) -> str:
  """Says how long the runs that are left take.

  Args:
    variants: of the sweep.
    root: the sweep's directory.
    known: results of another sweep, by title; where it has no such variant, the
      mean of all counts.
    pace: seconds of a step here, as `pace.of` measures it.
    num_devices: how many runs train at a time.
  """
  steps_of_run = {
    x.title: _seconds_of_run(x, known[x.title]) / known[x.title].pace
    for x in variants
    if x.title in known
  }
  if not steps_of_run:
    return 'How long it takes is not known before the first run.'
  mean = statistics.fmean(steps_of_run.values())
  steps = sum(
    _runs_left(x, root) * steps_of_run.get(x.title, mean) for x in variants
  )
  there = statistics.fmean(known[title].pace for title in steps_of_run)
  expected = history.duration(pace * steps / num_devices)
  return (
    f'It takes about {expected}: a small step takes {1e3 * pace:.0f} ms here,'
    f' and {1e3 * there:.0f} ms where it was last done.'
  )


def _seconds_of_run(variant: Variant, known: Result) -> float:
  """How long a run took there, where there may have been fewer."""
  num_trials = 0 if variant.rate_of else len(known.tried)
  runs = len(known.scores) + num_trials * variant.trial_fraction
  return 3600 * known.hours / runs


def _runs_left(variant: Variant, root: str) -> float:
  """How many runs have not ended."""
  left = lambda runs: sum(x.length for x in runs if x.evaluations(root) is None)
  rate = plan.best(variant, root)
  seeds = variant.num_seeds if rate is None else left(variant.runs(rate))
  return seeds + (0 if variant.rate_of else left(variant.trials()))
