"""SIGTERM and SIGINT to one of several processes, at any moment."""

from collections.abc import Iterator
import dataclasses
import math
import random
import shutil
import signal
import time
from typing import Any

from tests.torture import kills, launches
from tests.torture.launches import Case, Launch
from tests.torture.outcome import Outcome

COUNT = 20  # Signals during a save, and as many at other moments.
STATUS = 128 + signal.SIGTERM
# From the signal on, until the processes agree on where to stop: JAX looks for
# the signal once a second.
NOTICE_SECONDS = 5.0
QUESTIONS = 2  # That each process may still ask then.
END_SECONDS = 15.0  # From the last save on, until all are gone.
PROCESSES, DEVICES = 3, 2
SAVING = 'saving'
MOMENTS = ('step', 'step', 'compilation', 'an evaluation')
# So many steps that some are left at almost every signal, and more saves.
SETTINGS = ('train.steps=400', 'train.checkpoint_every=2')


@dataclasses.dataclass(frozen=True)
class Stop:
  """Outcome of one signal."""

  during_save: bool  # It came while one was being written or sealed.
  seconds: float = 0.0  # From the last save until all processes were gone.
  problem: str = ''


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Stops a run of 3 processes x 2 devices by a signal to one of them.

  Args:
    seed: of the moments.
    scale: of the number of signals.
    folder: to work in.

  Returns:
    How many ended all processes with status 143 at one of their next steps,
    and without loss: the run that was stopped so often ends as one that was
    left alone. First of those during a save, then of the others.
  """
  rng = random.Random(seed)
  case = launches.digit_case(PROCESSES, DEVICES)
  case = dataclasses.replace(case, settings=(*case.settings, *SETTINGS))
  expected = kills.undisturbed(case, folder)
  count = max(1, round(scale * COUNT))
  left = {True: count, False: count}  # By `Stop.during_save`.
  survived = {True: 0, False: 0}
  notes: list[str] = []
  slowest = 0.0
  idle = 0
  while any(x > 0 for x in left.values()) and idle < launches.MOST_IDLE:
    place = launches.scratch(folder, 'signals')
    stops: list[Stop] = []
    while any(x > 0 for x in left.values()):
      stop = _stop(case, place, rng, aim_at_save=left[True] > 0)
      if stop is None:
        break
      stops.append(stop)
      left[stop.during_save] -= 1
    idle = 0 if stops else idle + 1
    problem = _difference(case, place, expected)
    problems = [x.problem for x in stops if x.problem]
    notes += [f'{place}: {x}' for x in (*problems, problem) if x]
    for stop in stops:
      slowest = max(slowest, stop.seconds)
      survived[stop.during_save] += not (stop.problem or problem)
    if not problems and not problem:
      shutil.rmtree(place)
  for during_save, where in ((True, 'during a save'), (False, 'elsewhere')):
    tried = count - left[during_save]
    lost = tried - survived[during_save]
    if left[during_save] > 0:
      notes.append(f'{idle} runs ended as if there were no signals')
      lost += left[during_save]
    note = f'gone at most {slowest:.1f} s after the last save'
    yield Outcome(
      f'signals: {where}',
      survived[during_save] + lost,
      survived[during_save],
      lost,
      '; '.join([note, *notes[:3]]),
    )


def _difference(case: Case, place: str, expected: launches.Trace) -> str:
  """Lets the run come to its end; says how it is not as expected."""
  try:
    found = launches.finish(case, f'{place}/run', f'{place}/log')
  except (RuntimeError, ValueError, OSError) as error:
    return str(error)
  return found.difference(expected)


def _stop(
  case: Case, place: str, rng: random.Random, aim_at_save: bool
) -> Stop | None:
  """Launches and stops; None: the run came to its end before."""
  rank = rng.randrange(case.processes)
  number = rng.choice([signal.SIGTERM, signal.SIGINT])
  activity = SAVING if aim_at_save else rng.choice(MOMENTS)
  count = 1 if activity == 'compilation' else rng.randint(1, 6)
  with Launch(case, f'{place}/run', f'{place}/log') as launch:
    launch.wait_for(
      lambda line: line.get('activity', '').startswith(activity), count, rank
    )
    time.sleep(rng.uniform(0, 0.05 if aim_at_save else 0.2))
    if not launch.is_running():
      return _judge(launch, launch.wait(), rank, time.time(), time.time())
    sent = time.time()
    launch.processes[rank].send_signal(number)
    statuses = launch.wait()
    return _judge(launch, statuses, rank, sent, time.time())


def _judge(
  launch: Launch,
  statuses: list[int | None],
  rank: int,
  sent: float,
  end: float,
) -> Stop | None:
  """Judges the outcome of one signal.

  Args:
    launch: of processes that have ended.
    statuses: theirs.
    rank: of the one that got the signal.
    sent: when it did.
    end: when all were gone.

  Returns:
    None if the run had come to its end before it could stop.
  """
  told = [launch.lines(i) for i in range(len(statuses))]
  during_save = _is_saving(told[0], sent)
  # Python hears SIGINT when it has compiled what it is at.
  heard = min((x['time'] for x in told[rank] if x['time'] > sent), default=sent)
  late = [
    activity
    for lines in told
    for activity, begun in _activities(lines)
    if activity.startswith(('step', 'an evaluation'))
    and begun > heard + NOTICE_SECONDS
  ]
  if len(late) > QUESTIONS * len(statuses):
    return Stop(during_save, problem=f'it was not heard, up to {late[-1]}')
  if set(statuses) == {0}:
    return None
  if set(statuses) != {STATUS}:
    return Stop(during_save, problem=f'the statuses are {statuses}')
  begun = lambda what: [
    time
    for lines in told
    for activity, time in _activities(lines)
    if activity.startswith(what)
  ]
  # What was begun last before the end, of all processes: the save. Where an
  # evaluation is made up for, before the first step, there is none to be made.
  last = begun(SAVING) if begun('step') else begun('an evaluation')
  if not last:
    return Stop(during_save, problem='nothing was saved')
  seconds = end - max(last)
  late_end = f'all were gone after {seconds:.1f} s'
  return Stop(during_save, seconds, late_end if seconds > END_SECONDS else '')


def _activities(lines: list[dict[str, Any]]) -> list[tuple[str, float]]:
  return [(x['activity'], x['time']) for x in lines if 'activity' in x]


def _is_saving(lines: list[dict[str, Any]], time: float) -> bool:
  """Returns whether process 0 had begun a save then, and not sealed it."""
  sealed = {x['sealed']: x['time'] for x in lines if 'sealed' in x}
  return any(
    begun <= time < sealed.get(activity.split()[-1], math.inf)
    for activity, begun in _activities(lines)
    if activity.startswith(SAVING)  # 'saving step 12'
  )
