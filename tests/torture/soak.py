"""A long run: what it takes more and more of, and what its saves cost.

As a module it is imported; as a script it is the run, which counts its steps:

python -m tests.torture.soak SETTINGS --config=… --workdir=…

SETTINGS is a `Settings` as JSON; the rest is what experiments.run takes.
"""

from experiments import host_memory

if __name__ == '__main__':
  # Before the imports that take seconds, or they would be done twice.
  host_memory.restart_with_large_pages()

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple
from unittest import mock

from absl import app

from experiments import checkpoint, metrics, telemetry
from tests.torture.outcome import Outcome

ROOT = pathlib.Path(__file__).parents[2]
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
TINY = (
  'train.batch_size=384',
  *('data.num_workers=1', 'train.log_every=100'),
  *('train.eval_every=1000000', f'train.checkpoint_every={SAVE_EVERY}'),
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """Of one launch."""

  steps: str  # A file to which a byte is added for each step.
  saves: str  # A file in which the end says what the saves took.
  kill_after: int = 0  # Steps of this launch; 0: it is not killed.


class Sample(NamedTuple):
  """What a run and its workers have."""

  steps: int
  memory: int  # Bytes.
  files: int  # That are open.
  threads: int


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Lets a run run for long; then kills a shorter one again and again.

  Args:
    seed: of the kills.
    scale: of the number of steps.
    folder: to work in.

  Returns:
    Whether it takes more and more, whether saves hold it up, and how much of
    what it does is of use if it is killed every so often.
  """
  steps = _saves(scale * STEPS)
  yield from _soak(steps, pathlib.Path(folder))
  steps = _saves(scale * STEPS_WITH_KILLS)
  yield _kill(random.Random(seed), steps, pathlib.Path(folder))


def _saves(steps: float) -> int:
  return max(2, round(steps / SAVE_EVERY)) * SAVE_EVERY


def _start(
  workdir: pathlib.Path, steps: int, kill_after: int = 0
) -> subprocess.Popen:
  settings = Settings(f'{workdir}.steps', f'{workdir}.json', kill_after)
  with open(f'{workdir}.log', 'a') as log:
    return subprocess.Popen(
      [
        *(sys.executable, '-m', 'tests.torture.soak'),
        json.dumps(dataclasses.asdict(settings)),
        *('--config=configs/digits.py:smoke', f'--workdir={workdir}'),
        *(f'--config.{setting}' for setting in TINY),
        f'--config.train.steps={steps}',
      ],
      cwd=ROOT,
      stdout=log,
      stderr=log,
    )


def _done(workdir: pathlib.Path) -> int:
  """Steps of all launches."""
  path = pathlib.Path(f'{workdir}.steps')
  return path.stat().st_size if path.exists() else 0


def _soak(steps: int, folder: pathlib.Path) -> Iterator[Outcome]:
  workdir = folder / 'undisturbed'
  name = f'soak: {steps} steps, {steps // SAVE_EVERY} saves'
  process = _start(workdir, steps)
  try:
    samples = list(_watch(process, workdir))
  finally:
    process.kill()
    status = process.wait()
  looks = pathlib.Path(f'{workdir}.samples.json')
  looks.write_text(json.dumps([x._asdict() for x in samples]))
  if status:
    problem = f'ended with {status}, see {workdir}.log'
    yield Outcome(name, 1, 0, 1, problem)
    return
  for what, (is_good, note) in {
    **growth(samples, steps),
    'time': _held_up(workdir),
  }.items():
    yield Outcome(f'{name}: {what}', 1, int(is_good), int(not is_good), note)


def _watch(
  process: subprocess.Popen, workdir: pathlib.Path
) -> Iterator[Sample]:
  import psutil  # Of the extra 'test'.

  main = psutil.Process(process.pid)
  while process.poll() is None:
    try:
      family = [main, *main.children(recursive=True)]
      yield Sample(
        _done(workdir),
        sum(x.memory_info().rss for x in family),
        sum(x.num_fds() for x in family),
        sum(x.num_threads() for x in family),
      )
    except psutil.Error:  # One has just ended.
      pass
    time.sleep(INTERVAL)


def growth(
  samples: Sequence[Sample], steps: int
) -> dict[str, tuple[bool, str]]:
  """Whether it keeps within bounds, and figures, by what was looked at.

  Compared are the first and the last tenth of the time after the warm-up.
  """
  found = {}
  for name, warm_up in WARM_UP.items():
    some = [
      getattr(x, name) for x in samples if warm_up * steps <= x.steps < steps
    ]
    if len(some) < 2:
      found[name] = False, f'too short: looked at {len(some)} times'
      continue
    length = max(1, len(some) // 10)
    parts = some[:length], some[-length:]
    if name == 'memory':
      first, last = map(statistics.median, parts)
      ratio = last / first - 1
      found[name] = (
        ratio < MOST_GROWTH,
        f'{first / 2**20:.0f} to {last / 2**20:.0f} MiB, {100 * ratio:+.1f} %',
      )
    else:
      few, then = map(_usual, parts)
      found[name] = then <= few, f'{few} to {then}'
  return found


def _usual(values: Sequence[int]) -> int:
  """What there is as a rule: a save opens files, starts threads, ends both."""
  return min(statistics.multimode(values))


def _held_up(workdir: pathlib.Path) -> tuple[bool, str]:
  told = json.loads(pathlib.Path(f'{workdir}.json').read_text())
  share = told['held_up'] / told['seconds']
  each = told['held_up'] / max(1, told['saves'])
  step = told['seconds'] / told['steps']
  return share < MOST_HELD_UP, (
    f'{100 * share:.1f} % of {told["seconds"]:.0f} s are held up by saves,'
    f' {1000 * each:.0f} ms by each; a step takes {1000 * step:.0f} ms'
  )


def _kill(rng: random.Random, steps: int, folder: pathlib.Path) -> Outcome:
  """What is left of a run's work if it is killed every so often."""
  workdirs = folder / 'alone', folder / 'killed'
  seconds, kills, problem = [], 0, ''
  for workdir in workdirs:
    begun = time.monotonic()
    while True:
      few = rng.randint(KILL_EVERY * 3 // 4, KILL_EVERY * 5 // 4)
      process = _start(workdir, steps, few if workdir == workdirs[1] else 0)
      try:
        status = process.wait()
      finally:
        process.kill()
      if status != -signal.SIGKILL:
        break
      kills += 1
    seconds.append(time.monotonic() - begun)
    if status:
      problem = f'ended with {status}, see {workdir}.log'
  if not problem and _records(workdirs[0]) != _records(workdirs[1]):
    problem = f'{workdirs[1]} has other metrics than {workdirs[0]}'
  name = f'soak: kills, about one in {KILL_EVERY} steps'
  if problem:
    return Outcome(name, kills, 0, max(1, kills), problem)
  done = _done(workdirs[1])
  return Outcome(
    name,
    kills,
    kills,
    0,
    f'{steps} of {done} steps are of use, {100 * steps / done:.0f} %; '
    f'{seconds[0]:.0f} s undisturbed, {seconds[1]:.0f} s with all starts',
  )


def _records(workdir: pathlib.Path) -> list[dict[str, Any]]:
  return [
    {k: x for k, x in record.items() if k != 'time'}
    for record in telemetry.read_metrics(str(workdir))
  ]


def count(settings: Settings) -> None:
  """Lets this process count its steps, and what its saves take of them."""
  file = os.open(settings.steps, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  checkpoints = checkpoint.Checkpoints
  records = metrics.MetricsWriter
  told = {'seconds': 0.0, 'held_up': 0.0, 'saves': 0, 'steps': 0}
  begun: list[float] = []  # The first step's end: it took its time to compile.
  held_up = 0.0

  def holds_up(function: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
      nonlocal held_up
      before = time.perf_counter()
      function(*arguments)
      held_up += time.perf_counter() - before

    return call

  save, poll = holds_up(checkpoints.save), holds_up(checkpoints.poll)
  close, flush = checkpoints.close, holds_up(records.flush)

  def saved(*arguments: Any) -> None:
    save(*arguments)
    told['saves'] += 1

  def polled(*arguments: Any) -> None:  # After each step.
    told['steps'] += 1
    os.write(file, b'.')
    if told['steps'] == settings.kill_after:
      os.kill(os.getpid(), signal.SIGKILL)
    poll(*arguments)
    now = time.perf_counter()
    if not begun:
      begun.append(now)
    # The last evaluation and its save do not count.
    told['seconds'], told['held_up'] = now - begun[0], held_up

  def closed(*arguments: Any) -> None:
    pathlib.Path(settings.saves).write_text(json.dumps(told))
    close(*arguments)

  mock.patch.multiple(
    checkpoints, save=saved, poll=polled, close=closed
  ).start()
  mock.patch.object(records, 'flush', flush).start()


if __name__ == '__main__':
  count(Settings(**json.loads(sys.argv.pop(1))))
  from experiments import run as experiments_run  # Defines flags.

  app.run(experiments_run.main, flags_parser=experiments_run.parse_flags)
