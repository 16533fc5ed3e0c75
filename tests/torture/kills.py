"""kill -9 at random moments, and at those where most can go wrong."""

from collections.abc import Iterator, Sequence
from concurrent import futures
import os
import random
import shutil
import signal
import time
from typing import Any

from tests.torture import emulator, launches
from tests.torture.launches import Case, Launch, Trace
from tests.torture.outcome import Outcome
from tests.torture.victim import MOMENTS

RANDOM, AIMED, IN_A_STORE = 50, 20, 10  # Kills: in all, at each moment, there.
# Seconds after a moment that a kill may come; such moments take as long.
LONGEST = {'save': 0.4, 'restore': 0.2, 'compile': 3.0, 'evaluation': 0.05}
MOST = 3  # Moments of one kind that a launch may see before its kill.
MOST_STEPS = 8  # Likewise, steps.


def run(
  seed: int, scale: float, folder: str, cases: str = 'images,clips,points'
) -> Iterator[Outcome]:
  """Kills runs; each then has to end as one that was left alone.

  Args:
    seed: of the kills.
    scale: of their numbers.
    folder: to work in.
    cases: which runs.

  Returns:
    What came of the random ones, of those aimed at each moment, and of those of
    a run whose workdir is in a store.
  """
  some = [_CASES[name](folder) for name in cases.split(',')]
  numbers = lambda count: _shares(max(1, round(scale * count)), len(some))
  rng = random.Random(seed)
  with futures.ThreadPoolExecutor(2) as pool, emulator.running() as store:
    traces = dict(
      zip(
        (case.name for case in some),
        pool.map(lambda case: undisturbed(case, folder), some),
        strict=True,
      )
    )
    jobs: dict[str, list[futures.Future[Outcome]]] = {}
    for moment, count in (
      *(('', RANDOM),),
      *((moment, AIMED) for moment in MOMENTS),
    ):
      name = f'kills: {moment or "at random"}'
      for case, number in zip(some, numbers(count), strict=True):
        jobs.setdefault(name, []).append(
          pool.submit(
            kill,
            case,
            traces[case.name],
            rng.random(),
            [moment] * number,
            folder,
          )
        )
    jobs['kills: workdir on gs://'] = [
      pool.submit(
        kill,
        some[0],
        traces[some[0].name],
        rng.random(),
        [''] * max(1, round(scale * IN_A_STORE)),
        folder,
        store,
      )
    ]
    for name, parts in jobs.items():
      yield merged(name, [part.result() for part in parts])


_CASES = {
  'images': launches.image_case,
  'clips': launches.clip_case,
  'points': launches.point_case,
  'digits': lambda folder: launches.digit_case(),
}


def _shares(count: int, parts: int) -> list[int]:
  return [count // parts + (i < count % parts) for i in range(parts)]


def merged(name: str, outcomes: list[Outcome]) -> Outcome:
  """Several of one test as one."""
  tried = sum(x.tried for x in outcomes)
  lost = sum(x.lost for x in outcomes)
  notes = '; '.join(dict.fromkeys(x.note for x in outcomes if x.note))
  return Outcome(name, tried, tried - lost, lost, notes)


def undisturbed(case: Case, folder: str) -> Trace:
  """What a run leaves that is left alone."""
  place = launches.scratch(folder, f'{case.name}-undisturbed')
  return launches.finish(case, f'{place}/run', f'{place}/log')


def kill(
  case: Case,
  expected: Trace,
  seed: float,
  moments: Sequence[str],
  folder: str,
  store: emulator.Store | None = None,
) -> Outcome:
  """Kills one run again and again, and lets it come to its end.

  Args:
    case: what is trained.
    expected: of a run that was left alone.
    seed: of the kills.
    moments: of the kills, one after the other, see `victim.MOMENTS`; '': at
      random. Where the run ends before, another one begins.
    folder: to work in.
    store: where the workdir is; None: in the folder.

  Returns:
    How many kills it survived.
  """
  rng = random.Random(seed)
  tried = survived = idle = 0
  note = ''
  while tried < len(moments):
    place = launches.scratch(folder, f'{case.name}-{moments[tried]}')
    workdir = f'{place}/run'
    environment = {}
    if store is not None:
      workdir = store.url(os.path.basename(place))
      environment = store.environment
    log = f'{place}/log'
    kills = 0
    try:
      for moment in moments[tried:]:
        if moment in ('restore', 'delete') and not kills:
          # There has to be something.
          _launch(case, workdir, log, {'moment': 'evaluation'}, environment)
        if moment == 'compile':
          shutil.rmtree(f'{workdir}/compilation_cache', ignore_errors=True)
        if moment:
          was_killed = _aim(case, workdir, log, moment, rng, environment)
        else:
          was_killed = _kill_at_random(case, workdir, log, rng, environment)
        if not was_killed:
          break
        kills += 1
      os.environ.update(environment)  # The same for all that use a store here.
      found = launches.finish(case, workdir, log, environment)
      problem = found.difference(expected)
    except (RuntimeError, ValueError, OSError) as error:
      problem = str(error)
    tried += kills
    idle = 0 if kills else idle + 1
    if idle >= launches.MOST_IDLE:
      problem = problem or f'{idle} runs end before {moments[tried]!r}'
    if problem:
      note = note or f'{place}: {problem}'
      tried += not kills  # A run that fails by itself is lost, too.
    else:
      survived += kills
      shutil.rmtree(place)
  return Outcome(case.name, tried, survived, tried - survived, note)


def _launch(
  case: Case,
  workdir: str,
  log: str,
  victim: dict[str, Any],
  environment: dict[str, str],
) -> bool:
  """Whether a launch was killed; False: it came to its end.

  Raises:
    RuntimeError: if it ended in another way.
  """
  with Launch(case, workdir, log, {0: victim}, (), environment) as launch:
    return _is_killed(launch)


def _is_killed(launch: Launch) -> bool:
  (status,) = launch.wait()
  if status not in (0, -signal.SIGKILL):
    raise RuntimeError(f'It ended with {status}, see {launch.log}.0.txt')
  return status != 0


def _aim(
  case: Case,
  workdir: str,
  log: str,
  moment: str,
  rng: random.Random,
  environment: dict[str, str],
) -> bool:
  # What is compiled or restored is so but once in a launch.
  most = 1 if moment == 'compile' else MOST
  victim = {
    'moment': moment,
    'number': rng.randint(1, most),
    'delay': rng.uniform(0, LONGEST.get(moment, 0.0)),
  }
  return _launch(case, workdir, log, victim, environment)


def _kill_at_random(
  case: Case,
  workdir: str,
  log: str,
  rng: random.Random,
  environment: dict[str, str],
) -> bool:
  """After some steps, or now and then while the run starts up."""
  with Launch(case, workdir, log, environment=environment) as launch:
    if rng.random() < 0.2:
      time.sleep(rng.uniform(0, 5))
    else:
      launch.wait_for(lambda x: 'batch' in x, rng.randint(1, MOST_STEPS))
      time.sleep(rng.uniform(0, 0.05))
    launch.processes[0].kill()
    return _is_killed(launch)
