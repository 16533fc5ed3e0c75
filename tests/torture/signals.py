"""SIGTERM and SIGINT to one of several processes, at any moment."""

from collections.abc import Iterator, Sequence
import dataclasses
import math
import random
import signal
import time

from tests.torture import cases, runs
from tests.torture.outcome import Outcome, scaled
from tests.torture.runs import Line, Run

COUNT = 20  # Signals during a save, and as many at other moments.
STATUS = 128 + signal.SIGTERM
# From the signal on, until the processes agree on where to stop: JAX looks for
# the signal once a second.
NOTICE_SECONDS = 5.0
QUESTIONS = 2  # How often each process may still ask then.
END_SECONDS = 15.0  # From the last save on, until all are gone.
PROCESSES, DEVICES = 3, 2
DURING_SAVE, ELSEWHERE = 'during a save', 'elsewhere'
MOMENTS = ('step', 'step', 'compile', 'evaluation')
# So many steps that some are left at almost every signal, and more saves.
SETTINGS = ('train.steps=400', 'train.checkpoint_every=2')


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Stops a run of 3 processes x 2 devices by a signal to one of them.

  All processes have to end with status 143 at one of their next steps, and the
  run that was stopped so often has to end as one that was left alone.
  """
  rng = random.Random(seed)
  case = cases.digit_case(PROCESSES, DEVICES)
  case = dataclasses.replace(case, settings=(*case.settings, *SETTINGS))
  expected = Run(case, folder).finish()
  slowest = 0.0

  def stop_once(run: Run, kinds: Sequence[str]) -> list[str]:
    nonlocal slowest
    rank = rng.randrange(PROCESSES)
    is_aimed = DURING_SAVE in kinds
    moment = 'save' if is_aimed else rng.choice(MOMENTS)
    victim = {
      'moment': moment,
      'number': 1 if moment == 'compile' else rng.randint(1, 6),
      'delay': rng.uniform(0, 0.05 if is_aimed else 0.2),
      'fault': rng.choice(['SIGTERM', 'SIGINT']),
    }
    with run.launch({rank: victim}) as launch:
      statuses = launch.wait()
      end = time.time()
    if launch.fault_time(rank) is None and run.is_over:
      return []
    lines = [launch.lines(i) for i in range(PROCESSES)]
    kind, seconds = judge(lines, statuses, rank, end)
    slowest = max(slowest, seconds)
    return [kind] if kind else []

  wanted = dict.fromkeys([DURING_SAVE, ELSEWHERE], scaled(scale, COUNT))
  for outcome in runs.disturb(
    'signals', case, expected, wanted, stop_once, folder
  ):
    figures = f'all gone at most {slowest:.1f} s after the last save'
    outcome.notes.insert(0, figures)
    yield outcome


def judge(
  lines: Sequence[Sequence[Line]],
  statuses: Sequence[int | None],
  rank: int,
  end: float,
) -> tuple[str, float]:
  """Judges by what processes have logged how they ended after a signal.

  The process `rank` got the signal; at `end` all were gone. Returns when the
  signal came, and the seconds from the last save until `end`; '' and 0 if the
  run had come to its end before it could stop. Raises RuntimeError if the
  processes did not stop as they should.
  """
  sent = next((x['time'] for x in lines[rank] if x['moment'] == 'fault'), None)
  if sent is None:
    raise RuntimeError(f'Without a signal, the statuses are {statuses}.')
  # Python hears SIGINT when it has compiled what it is at.
  times = (x['time'] for x in runs.activities(lines[rank]))
  heard = min((x for x in times if x > sent), default=sent)
  begun = lambda *moments: [
    x['time'] for y in lines for x in y if x['moment'] in moments
  ]
  questions = begun('step', 'evaluation')
  late = [time for time in questions if time > heard + NOTICE_SECONDS]
  if len(late) > QUESTIONS * len(statuses):
    raise RuntimeError(
      f'The signal was not heard for {max(late) - heard:.1f} s.'
    )
  if set(statuses) == {0}:
    return '', 0.0
  if set(statuses) != {STATUS}:
    raise RuntimeError(f'The statuses are {statuses}.')
  # Where an evaluation is made up for, before the first step, nothing is saved.
  last = begun('save') if begun('step') else begun('evaluation')
  if not last:
    raise RuntimeError('Nothing was saved.')
  seconds = end - max(last)
  if seconds > END_SECONDS:
    raise RuntimeError(f'All were gone only {seconds:.1f} s after a save.')
  return DURING_SAVE if _is_saving(lines[0], sent) else ELSEWHERE, seconds


def _is_saving(lines: Sequence[Line], time: float) -> bool:
  """Returns whether process 0 had begun a save then, and not sealed it."""
  sealed = {x['what']: x['time'] for x in lines if x['moment'] == 'seal'}
  return any(
    x['time'] <= time < sealed.get(x['what'].split()[-1], math.inf)
    for x in lines
    if x['moment'] == 'save'  # Its text is 'saving step 12'.
  )
