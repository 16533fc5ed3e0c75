"""SIGTERM and SIGINT to one of several processes, at any moment."""

from collections.abc import Iterator
import random
import shutil
import signal
import time

from scripts.torturing import kills, launches
from scripts.torturing.launches import Case, Launch
from scripts.torturing.outcome import Outcome

COUNT = 20
STATUS = 128 + signal.SIGTERM
SECONDS = 15.0  # From the end of the step on, until all are gone.
PROCESSES, DEVICES = 3, 2
MOMENTS = ('step', 'step', 'compilation', 'an evaluation', 'saving')


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Stops a run of 3 processes x 2 devices by a signal to one of them.

  Args:
    seed: of the moments.
    scale: of the number of signals.
    folder: to work in.

  Returns:
    How many ended all processes with status 143 within `SECONDS`, and without
    loss: the run that was stopped so often ends as one that was left alone.
  """
  rng = random.Random(seed)
  case = launches.digit_case(PROCESSES, DEVICES)
  expected = kills.undisturbed(case, folder)
  count = max(1, round(scale * COUNT))
  tried = survived = idle = 0
  slowest = 0.0
  notes: list[str] = []
  while tried < count:
    place = launches.scratch(folder, 'signals')
    good = bad = 0
    is_running = True
    while is_running and tried + good + bad < count:
      stopped = _stop(case, place, rng)
      is_running = stopped is not None
      if stopped is not None:
        seconds, problem = stopped
        slowest = max(slowest, seconds)
        good, bad = good + (not problem), bad + bool(problem)
        notes += [f'{place}: {problem}'] if problem else []
    try:
      found = launches.finish(case, f'{place}/run', f'{place}/log')
      problem = found.difference(expected)
    except (RuntimeError, ValueError, OSError) as error:
      problem = str(error)
    tried += good + bad
    idle = 0 if good + bad else idle + 1
    if idle >= launches.MOST_IDLE:
      problem = problem or f'{idle} runs end as if there were no signals'
    if problem:
      notes.append(f'{place}: {problem}')
      tried += not good + bad  # A run that fails by itself is lost, too.
    else:
      survived += good
      if not bad:
        shutil.rmtree(place)
  yield Outcome(
    'SIGTERM and SIGINT to one of 3 processes',
    tried,
    survived,
    tried - survived,
    '; '.join([f'gone at most {slowest:.1f} s after the step', *notes[:3]]),
  )


def _stop(
  case: Case, place: str, rng: random.Random
) -> tuple[float, str] | None:
  """Launches and stops; None: the run came to its end before.

  Returns:
    Seconds from the end of the step until all processes were gone, and what was
    wrong with that.
  """
  rank = rng.randrange(case.processes)
  number = rng.choice([signal.SIGTERM, signal.SIGINT])
  activity, count = rng.choice(MOMENTS), rng.randint(1, 6)
  with Launch(case, f'{place}/run', f'{place}/log') as launch:
    launch.wait_for(
      lambda line: line.get('activity', '').startswith(activity),
      1 if activity == 'compilation' else count,
      rank,
    )
    time.sleep(rng.uniform(0, 0.2))
    if not launch.is_running():
      return _judge(launch, launch.wait(), time.time())
    launch.processes[rank].send_signal(number)
    statuses = launch.wait()
    return _judge(launch, statuses, time.time())


def _judge(
  launch: Launch, statuses: list[int | None], end: float
) -> tuple[float, str] | None:
  if set(statuses) == {0}:
    return None
  if set(statuses) != {STATUS}:
    return 0.0, f'the statuses are {statuses}'
  lines = [x for rank in range(len(statuses)) for x in launch.lines(rank)]
  begun = lambda what: [
    x['time'] for x in lines if x.get('activity', '').startswith(what)
  ]
  # What was begun last before the end, of all processes: the save. Where an
  # evaluation is made up for, before the first step, there is none to be made.
  last = begun('saving') if begun('step') else begun('an evaluation')
  if not last:
    return 0.0, 'nothing was saved'
  seconds = end - max(last)
  late = f'all were gone after {seconds:.1f} s' if seconds > SECONDS else ''
  return seconds, late
