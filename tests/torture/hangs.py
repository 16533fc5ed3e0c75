"""Processes that are gone or hang, and a store that does not answer."""

from collections.abc import Iterator, Sequence
import random
import time

from tests.torture import cases, emulator, faulty_proxy, runs
from tests.torture.outcome import Outcome, scaled
from tests.torture.runs import Launch, Run

COUNT = 5  # Faults of each kind.
LIMIT, COMPILATION = 20.0, 60.0  # Seconds of the watchdog.
GRACE = 10.0  # Seconds after that, at most.
SETTINGS = (
  f'train.watchdog_seconds={LIMIT}',
  f'train.watchdog_compile_seconds={COMPILATION}',
  'train.watchdog_restore_seconds=120',
)
PROCESSES = 3
WORKERS = 'data workers that are killed'
COORDINATOR = 'a coordinator that is killed'
STOPPED = 'a process that is stopped'
ASLEEP = 'a process that sleeps for ever'
STORE = 'a store that does not answer'
FAULTS = {
  COORDINATOR: 'SIGKILL',
  STOPPED: 'SIGSTOP',
  ASLEEP: 'SLEEP',
  STORE: 'NONE',  # The proxy causes it.
}


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Lets processes die and hang, and sees that all others end soon.

  All processes have to be gone within the watchdog's limit and 10 s, and the
  run then has to end as one that was left alone. Where a data worker dies, the
  run has to go on by itself.
  """
  rng = random.Random(seed)
  slowest = -LIMIT  # Seconds after the limit.

  def kill_workers(run: Run, kinds: Sequence[str]) -> list[str]:
    victim = {
      'moment': 'step',
      'number': rng.randint(5, 12),
      'fault': 'KILL_WORKERS',
    }
    with run.launch({0: victim}) as launch:
      statuses = launch.wait()
    if not run.is_over:
      raise RuntimeError(f'The statuses are {statuses}.')
    deaths = sum(x['moment'] == 'fault' for x in launch.lines())
    return deaths * [WORKERS]

  def hang_once(run: Run, kinds: Sequence[str]) -> list[str]:
    nonlocal slowest
    kind = kinds[0]
    rank = rng.randrange(run.case.processes) if kind != COORDINATOR else 0
    victim = {
      'moment': 'step',
      'number': rng.randint(1, 25),
      'fault': FAULTS[kind],
    }
    if kind == ASLEEP:
      moment = rng.choice(['step', 'save', 'evaluation'])
      victim |= {'moment': moment, 'number': rng.randint(1, 3)}
    with run.launch({rank: victim}, SETTINGS) as launch:
      if kind == STORE:
        while launch.fault_time() is None and launch.started[0].poll() is None:
          time.sleep(0.005)
        proxy.hang()
      # What is stopped cannot even end itself: a scheduler kills it.
      ranks = [i for i in range(run.case.processes) if i != rank]
      statuses = launch.wait(ranks if kind == STOPPED else None)
      begun, end = launch.fault_time(rank), time.time()
    proxy.heal()
    if begun is None and not run.is_over:
      raise RuntimeError(f'Without a fault, the statuses are {statuses}.')
    if begun is None or 0 in statuses:  # Some were through before the fault.
      return []
    slowest = max(slowest, check(statuses, end - begun, limit(launch)))
    return [kind]

  one, three = cases.digit_case(), cases.digit_case(PROCESSES)
  expected = {x.processes: Run(x, folder).finish() for x in (one, three)}
  count = scaled(scale, COUNT)
  with (
    emulator.running() as store,
    faulty_proxy.running(store.address) as proxy,
  ):
    yield from runs.disturb(
      'hangs', one, expected[1], {WORKERS: count}, kill_workers, folder
    )
    for case, kinds, place in (
      (three, [COORDINATOR, STOPPED, ASLEEP], None),
      (one, [STORE], proxy),
    ):
      wanted, one_run = dict.fromkeys(kinds, count), expected[case.processes]
      for outcome in runs.disturb(
        'hangs', case, one_run, wanted, hang_once, folder, place
      ):
        figures = f'all gone at most {slowest:.0f} s after the limit'
        outcome.notes.insert(0, figures)
        yield outcome


def check(
  statuses: Sequence[int | None], seconds: float, limit: float
) -> float:
  """Returns how many seconds after the limit processes ended.

  Raises RuntimeError if that was too late.
  """
  if None in statuses or seconds > limit + GRACE:
    raise RuntimeError(f'After {seconds:.0f} s the statuses are {statuses}.')
  return seconds - limit


def limit(launch: Launch) -> float:
  """Returns the watchdog's limit for what processes did when they ended."""
  is_compiling = any(
    line['moment'] == 'compile'
    for rank in range(len(launch.started))
    for line in runs.activities(launch.lines(rank))[-1:]
  )
  return COMPILATION if is_compiling else LIMIT
