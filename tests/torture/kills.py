"""kill -9 at random moments, and at those where most can go wrong."""

from collections.abc import Iterator, Sequence
from concurrent import futures
import functools
import random
import shutil
import signal
from typing import Any

from tests.torture import cases, emulator, runs
from tests.torture.cases import Case
from tests.torture.outcome import Outcome, scaled
from tests.torture.runs import Run

RANDOM, AIMED, IN_A_STORE = 50, 20, 10  # Kills: in all, at each moment, there.
AT_RANDOM, WORKDIR_IN_A_STORE = 'at random', 'workdir on gs://'
# Moments of `victim` to aim at, and how many seconds later a kill may come: as
# long as such a moment may take.
MOMENTS = {
  'save': 0.4,
  'commit': 0.01,
  'delete': 0.0,
  'restore': 0.2,
  'compile': 3.0,
  'evaluation': 0.05,
}
MOST = 3  # Moments of one kind that a launch may see before its kill.
MOST_STEPS = 8  # Steps that it may see.


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Kills runs at random, at each moment, and with a workdir in a store.

  Each run then has to end as one that was left alone.
  """
  rng = random.Random(seed)
  makers = cases.image_case, cases.clip_case, cases.point_case
  wanted = {AT_RANDOM: scaled(scale, RANDOM)} | dict.fromkeys(
    MOMENTS, scaled(scale, AIMED)
  )
  with futures.ThreadPoolExecutor() as pool, emulator.running() as store:
    jobs = [
      pool.submit(
        _kill_runs,
        make(folder),
        {kind: (x + i) // len(makers) for kind, x in wanted.items()},
        scaled(scale, IN_A_STORE) if make is cases.image_case else 0,
        *(random.Random(rng.random()), folder, store),
      )
      for i, make in enumerate(makers)
    ]
    total: dict[str, Outcome] = {}
    for outcome in (x for job in jobs for x in job.result()):
      merged = total.setdefault(outcome.test, Outcome(outcome.test))
      merged.tried += outcome.tried
      merged.survived += outcome.survived
      merged.notes += outcome.notes
  yield from total.values()


def _kill_runs(
  case: Case,
  wanted: dict[str, int],
  in_a_store: int,
  rng: random.Random,
  folder: str,
  store: emulator.Store,
) -> list[Outcome]:
  """Kills runs of one case, in this thread."""
  expected = Run(case, folder).finish()
  kill = functools.partial(kill_once, rng)
  found = runs.disturb('kills', case, expected, wanted, kill, folder)
  if in_a_store:
    wanted = {WORKDIR_IN_A_STORE: in_a_store}
    found += runs.disturb('kills', case, expected, wanted, kill, folder, store)
  return found


def kill_once(rng: random.Random, run: Run, kinds: Sequence[str]) -> list[str]:
  """Launches a run of one process that is killed: a `runs.Disturb`."""
  kind = rng.choice(kinds)
  aim = kind
  if kind == 'restore' and not run.launches:
    aim = 'evaluation'  # There has to be a checkpoint first.
  if aim == 'compile':
    shutil.rmtree(f'{run.workdir}/compilation_cache', ignore_errors=True)
  with run.launch({0: _victim(rng, aim)}) as launch:
    (status,) = launch.wait()
  if status not in (0, -signal.SIGKILL):
    raise RuntimeError(f'status {status}, see {launch.log}.0.txt')
  return [kind] if status and aim == kind else []


def _victim(rng: random.Random, aim: str) -> dict[str, Any]:
  if aim in MOMENTS:
    most = 1 if aim == 'compile' else MOST  # Each launch compiles once.
    number = rng.randint(1, most)
    return {
      'moment': aim,
      'number': number,
      'delay': rng.uniform(0, MOMENTS[aim]),
    }
  if rng.random() < 0.2:
    return {'moment': 'start', 'delay': rng.uniform(0, 5)}
  number = rng.randint(1, MOST_STEPS)
  return {'moment': 'step', 'number': number, 'delay': rng.uniform(0, 0.05)}
