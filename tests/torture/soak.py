"""A long run: what it takes more and more of, and what its saves cost."""

from collections.abc import Iterator, Sequence
import itertools
import json
import pathlib
import random
import signal
import statistics
import time
from typing import NamedTuple

import psutil

from tests.torture.cases import Case
from tests.torture.outcome import Outcome
from tests.torture.runs import activities, Line, Run

STEPS, STEPS_WITH_KILLS = 20_000, 2_000
SAVE_EVERY, KILL_EVERY = 100, 200  # Steps.
# Of the steps. Pools of threads are full once as many saves as they can have
# happened to meet in them; a leak goes on.
WARM_UP = {'memory': 0.1, 'files': 0.1, 'threads': 0.25}
MOST_GROWTH = 0.05  # Of memory.
MOST_HELD_UP = 0.05  # Of the time, by saves.
INTERVAL = 0.2  # Seconds between two looks.
# The smoke variant, in steps of 20 ms. Of each save, Orbax takes some 50 ms for
# these 170 arrays, however small, before it goes on beside the training.
SETTINGS = (
  'train.batch_size=384',
  *('data.num_workers=1', 'train.log_every=100'),
  *('train.eval_every=1000000', f'train.checkpoint_every={SAVE_EVERY}'),
)


class Sample(NamedTuple):
  """Resources of a run and its workers at one moment."""

  time: float
  memory: int  # Bytes.
  files: int  # Open ones.
  threads: int


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Lets a run run for long; then kills a shorter one again and again.

  The outcomes tell whether the first takes more and more, whether saves hold it
  up, and how much of the second's work is of use.
  """
  yield from _soak(_case(scale * STEPS), folder)
  yield _kill(_case(scale * STEPS_WITH_KILLS), random.Random(seed), folder)


def _case(steps: float) -> Case:
  steps = max(2, round(steps / SAVE_EVERY)) * SAVE_EVERY
  return Case(
    f'{steps}-steps', 'digits.py:smoke', (*SETTINGS, f'train.steps={steps}')
  )


def _soak(case: Case, folder: str) -> Iterator[Outcome]:
  run = Run(case, folder)
  with run.launch() as launch:
    samples = list(_watch(psutil.Process(launch.started[0].pid)))
    launch.wait()
  pathlib.Path(run.place, 'samples.json').write_text(json.dumps(samples))
  if run.is_over:
    lines = launch.lines()
    found = growth(samples, _times(lines, 'step'))
    found['time'] = _held_up(lines)
  else:
    found = {'end': (False, f'it failed, see {launch.log}.0.txt')}
  for what, (is_good, figures) in found.items():
    outcome = Outcome(f'soak: {case.name}: {what}')
    outcome.add('' if is_good else 'too much')
    outcome.notes.insert(0, figures)
    yield outcome


def _times(lines: Sequence[Line], moment: str) -> list[float]:
  return [line['time'] for line in lines if line['moment'] == moment]


def _watch(main: psutil.Process) -> Iterator[Sample]:
  """Looks at a process and those that it started, until it ends."""
  while main.is_running() and main.status() != psutil.STATUS_ZOMBIE:
    try:
      family = [main, *main.children(recursive=True)]
      yield Sample(
        time.time(),
        sum(x.memory_info().rss for x in family),
        sum(x.num_fds() for x in family),
        sum(x.num_threads() for x in family),
      )
    except psutil.Error:  # One has just ended.
      pass
    time.sleep(INTERVAL)


def growth(
  samples: Sequence[Sample], steps: Sequence[float]
) -> dict[str, tuple[bool, str]]:
  """Compares the first and the last tenth of the time after the warm-up.

  Samples are in the order of their times; `steps` are the times when steps
  began. Returns whether growth keeps within bounds, and figures, by resource.
  """
  found = {}
  for name, warm_up in WARM_UP.items():
    first, end = steps[int(warm_up * len(steps))], steps[-1]
    some = [getattr(x, name) for x in samples if first <= x.time < end]
    if len(some) < 2:
      found[name] = False, f'too short: looked at {len(some)} times'
      continue
    length = max(1, len(some) // 10)
    parts = some[:length], some[-length:]
    if name == 'memory':
      before, after = map(statistics.median, parts)
      ratio = after / before - 1
      figures = f'{before / 2**20:.0f} to {after / 2**20:.0f} MiB'
      found[name] = ratio < MOST_GROWTH, f'{figures}, {100 * ratio:+.1f} %'
    else:
      # What there is as a rule: a save opens files, starts threads, ends both.
      few, then = (min(statistics.multimode(part)) for part in parts)
      found[name] = then <= few, f'{few} to {then}'
  return found


def _held_up(lines: Sequence[Line]) -> tuple[bool, str]:
  """Whether saves hold the run up little enough, and figures."""
  steps = _times(lines, 'step')
  seconds = steps[-1] - steps[1]  # The first step took its time to compile.
  saves = [
    after['time'] - before['time']
    for before, after in itertools.pairwise(activities(lines))
    if before['moment'] == 'save' and after['moment'] == 'wait'
  ]
  share = sum(saves) / seconds
  return share < MOST_HELD_UP, (
    f'{100 * share:.1f} % of {seconds:.0f} s are held up by saves,'
    f' {1000 * statistics.mean(saves):.0f} ms by each; a step takes'
    f' {1000 * seconds / len(steps):.0f} ms'
  )


def _kill(case: Case, rng: random.Random, folder: str) -> Outcome:
  """Says what is left of a run's work if it is killed every so often."""
  alone, killed = Run(case, folder), Run(case, folder)
  outcome = Outcome(f'soak: kills, about one in {KILL_EVERY} steps')
  begun = time.monotonic()
  expected = alone.finish()
  between = time.monotonic()
  kills = 0
  while not killed.is_over:
    number = rng.randint(KILL_EVERY * 3 // 4, KILL_EVERY * 5 // 4)
    with killed.launch({0: {'moment': 'step', 'number': number}}) as launch:
      (status,) = launch.wait()
    if status not in (0, -signal.SIGKILL):
      outcome.add(f'status {status}, see {launch.log}.0.txt', kills + 1)
      return outcome
    kills += status != 0
  ended = time.monotonic()
  problem = killed.finish().difference(expected)
  outcome.add(f'{killed.place}: {problem}' if problem else '', max(1, kills))
  steps, done = (len(_times(x.lines(), 'step')) for x in (alone, killed))
  figures = (
    f'{steps} of {done} steps are of use, {100 * steps / done:.0f} %;'
    f' {between - begun:.0f} s undisturbed,'
    f' {ended - between:.0f} s with all starts'
  )
  outcome.notes.insert(0, figures)
  return outcome
