"""Processes that are gone or stand still, and a store that does not answer."""

from collections.abc import Callable, Iterator
import os
import random
import shutil
import signal
import time
from typing import Any

import psutil

from tests.torture import emulator, faulty_proxy, kills, launches
from tests.torture.launches import Case, Launch, Trace
from tests.torture.outcome import Outcome

COUNT = 5  # Of each kind.
LIMIT, COMPILATION = 20.0, 60.0  # Seconds of the watchdog.
GRACE = 10.0  # Seconds after that, at most.
SETTINGS = (
  f'train.watchdog_seconds={LIMIT}',
  f'train.watchdog_compile_seconds={COMPILATION}',
  'train.watchdog_restore_seconds=120',
)
# Does something to a launch; says when, by the clock, or None if it was too
# late for that.
Fault = Callable[[Launch, random.Random], float | None]


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Lets processes die and hang, and sees that all others end soon.

  Args:
    seed: of the moments.
    scale: of how often.
    folder: to work in.

  Returns:
    Of each kind, how often all processes were gone within the watchdog's limit
    and 10 s, and the run then ended as one that was left alone. Where a data
    worker dies, the run has to go on by itself.
  """
  rng = random.Random(seed)
  count = max(1, round(scale * COUNT))
  one, three = launches.digit_case(), launches.digit_case(3)
  expected = {x.processes: kills.undisturbed(x, folder) for x in (one, three)}
  yield _replaced(one, expected[1], rng, count, folder)
  for name, fault, victims in (
    ('a coordinator that is killed', _kill_coordinator, lambda rng: {}),
    ('a process that is stopped', _stop_process, lambda rng: {}),
    ('a process that sleeps for ever', _wait, _sleeper),
  ):
    yield _ended(
      f'hangs: {name}', three, expected[3], rng, count, folder, fault, victims
    )
  with (
    emulator.running() as store,
    faulty_proxy.running(store.address) as proxy,
  ):

    def hang(launch: Launch, rng: random.Random) -> float | None:
      if not _wait_for_steps(launch, rng):
        return None
      proxy.hang()
      return time.time()

    yield _ended(
      *('hangs: a store that does not answer', one, expected[1], rng, count),
      *(folder, hang, lambda rng: {}, proxy),
    )


def _wait_for_steps(launch: Launch, rng: random.Random) -> bool:
  if not launch.wait_for(lambda line: 'batch' in line):
    return False
  first = next(x['step'] for x in launch.lines() if 'batch' in x)
  step = first + rng.randint(1, 25)
  return launch.wait_for(lambda line: 'batch' in line and line['step'] >= step)


def _kill_coordinator(launch: Launch, rng: random.Random) -> float | None:
  if not _wait_for_steps(launch, rng):
    return None
  launch.processes[0].kill()
  return time.time()


def _stop_process(launch: Launch, rng: random.Random) -> float | None:
  """As a machine that hangs: it cannot even end itself."""
  if not _wait_for_steps(launch, rng):
    return None
  process = rng.choice(launch.processes)
  process.send_signal(signal.SIGSTOP)
  begun = time.time()
  for other in launch.processes:
    if other is not process:
      other.wait(launches.TIMEOUT)
  ended = time.time()
  process.kill()  # As the scheduler does.
  process.wait()
  # `_ended` counts until now, and this is none of the others' time.
  return begun + time.time() - ended


def _sleeper(rng: random.Random) -> dict[int, dict[str, Any]]:
  moment = rng.choice(['step', 'save', 'evaluation'])
  number = rng.randint(1, 3)
  return {rng.randrange(3): {'moment': moment, 'number': number, 'sleep': True}}


def _wait(launch: Launch, rng: random.Random) -> float | None:
  """It sleeps by itself; since when, is what it told last."""
  del rng
  launch.wait()
  return max(
    launch.lines(rank)[-1]['time'] for rank in range(len(launch.processes))
  )


def _ended(
  name: str,
  case: Case,
  expected: Trace,
  rng: random.Random,
  count: int,
  folder: str,
  fault: Fault,
  victims: Callable[[random.Random], dict[int, dict[str, Any]]],
  proxy: faulty_proxy.Proxy | None = None,
) -> Outcome:
  """A fault after which all processes have to end by themselves."""
  tried = survived = idle = 0
  slowest = 0.0
  notes: list[str] = []
  while tried < count:
    place = launches.scratch(folder, 'hangs')
    workdir, environment = f'{place}/run', {}
    if proxy is not None:
      workdir = proxy.url(os.path.basename(place))
      environment = proxy.environment
      os.environ.update(environment)
    with Launch(
      *(case, workdir, f'{place}/log', victims(rng), SETTINGS, environment)
    ) as launch:
      begun = fault(launch, rng)
      statuses = launch.wait()
      seconds = time.time() - (begun or 0)
      limit = _limit(launch)
    if proxy is not None:
      proxy.heal()
    is_over = begun is None or 0 in statuses  # Before it was disturbed.
    idle = idle + 1 if is_over else 0
    if 0 < idle < launches.MOST_IDLE:
      continue
    tried += 1
    slowest = max(slowest, seconds - limit if begun is not None else 0.0)
    problem = ''
    if is_over:
      problem = f'{idle} runs end as if nothing were wrong: {statuses}'
    elif None in statuses or seconds > limit + GRACE:
      problem = f'after {seconds:.0f} s the statuses are {statuses}'
    else:
      try:
        found = launches.finish(case, workdir, f'{place}/log', environment)
        problem = found.difference(expected)
      except (RuntimeError, ValueError, OSError) as error:
        problem = str(error)
    if problem:
      notes.append(f'{place}: {problem}')
    else:
      survived += 1
      shutil.rmtree(place)
  note = f'all gone at most {slowest:.0f} s after the limit'
  notes = [note, *notes[:3]]
  return Outcome(name, tried, survived, tried - survived, '; '.join(notes))


def _limit(launch: Launch) -> float:
  """What the watchdog gave to what the processes were at when they ended."""
  is_compiling = any(
    line.get('activity') == 'compilation'
    for rank in range(len(launch.processes))
    for line in launch.lines(rank)[-1:]
  )
  return COMPILATION if is_compiling else LIMIT


def _replaced(
  case: Case, expected: Trace, rng: random.Random, count: int, folder: str
) -> Outcome:
  """Data workers that are killed, in a run that goes on."""
  tried = survived = 0
  notes: list[str] = []
  while tried < count:
    place = launches.scratch(folder, 'workers')
    with Launch(case, f'{place}/run', f'{place}/log') as launch:
      deaths = 0
      while tried + deaths < count and _wait_for_steps(launch, rng):
        deaths += _kill_worker(launch.processes[0].pid, rng)
      statuses = launch.wait()
    problem = ''
    if statuses != [0]:
      problem = f'the status is {statuses[0]}'
    else:
      trace = launches.trace(case, f'{place}/run', f'{place}/log')
      problem = trace.difference(expected)
    tried += max(deaths, bool(problem))
    if problem:
      notes.append(f'{place}: {problem}')
    else:
      survived += deaths
      shutil.rmtree(place)
  return Outcome(
    *('hangs: data workers that are killed', tried, survived, tried - survived),
    '; '.join(['the run goes on', *notes[:3]]),
  )


def _kill_worker(pid: int, rng: random.Random) -> bool:
  try:
    workers = [
      child
      for child in psutil.Process(pid).children()
      if any('spawn_main' in argument for argument in child.cmdline())
    ]
    rng.choice(workers).kill()
  except (psutil.Error, IndexError):  # There is none at the moment.
    return False
  return True
