"""Trains the runs of a sweep, each in a process, on one device or several."""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import datetime
import fcntl
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from experiments import benchmarks
from scripts.reporting import history
from scripts.sweeping import plan
from scripts.sweeping.plan import Run, Variant

OUTPUT = 'output.txt'  # What a run's process says, in its directory.
POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Device:
  """What a run has to itself: 'cpu:N' is a core, 'gpu:N' a GPU, 'tpu:N' a chip.

  '' is all there is.
  """

  name: str = ''

  def __post_init__(self) -> None:
    """Raises ValueError for a name that is none, or a core that is not."""
    if self.name and not re.fullmatch(r'(cpu|gpu|tpu):\d+', self.name):
      raise ValueError(
        f'--devices: {self.name!r} is not cpu:N, gpu:N or tpu:N.'
      )
    if self._kind == 'cpu' and self._number not in os.sched_getaffinity(0):
      raise ValueError(
        f'--devices: there is no {self.name}; this process may use the cores'
        f' {sorted(os.sched_getaffinity(0))}.'
      )

  @property
  def _kind(self) -> str:
    return self.name.partition(':')[0]

  @property
  def _number(self) -> int:
    return int(self.name.partition(':')[2])

  def environment(self) -> dict[str, str]:
    """Variables that leave a process nothing but this device."""
    number = self.name.partition(':')[2]
    return {
      '': {},
      'cpu': {'JAX_PLATFORMS': 'cpu'},
      'gpu': {'CUDA_VISIBLE_DEVICES': number},
      'tpu': {
        'TPU_VISIBLE_CHIPS': number,
        'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1',
        'TPU_PROCESS_BOUNDS': '1,1,1',
      },
    }[self._kind]

  def prepare(self) -> Callable[[], None] | None:
    """What a process calls before it starts."""
    if self._kind != 'cpu':
      return None
    return functools.partial(os.sched_setaffinity, 0, {self._number})


@dataclasses.dataclass
class _Started:
  run: Run
  process: subprocess.Popen
  since: float


def _start(run: Run, root: str, device: Device) -> _Started:
  """Starts a run's process, which goes on if this one dies.

  It holds a lock, for which the same run waits if it is started once more.
  """
  workdir = pathlib.Path(run.workdir(root))
  workdir.mkdir(parents=True, exist_ok=True)
  variant = run.variant
  suffix = f':{variant.name}' if variant.name else ''
  command = [
    *(sys.executable, '-m', 'experiments.run'),
    f'--config=configs/{variant.config_name}.py{suffix}',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in run.settings().items()),
    # What the runs compile alike is compiled once.
    f'--config.train.compilation_cache={pathlib.Path(root).absolute()}/compiled',
  ]
  with open(workdir / OUTPUT, 'ab') as output, open(workdir / 'lock', 'w') as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=output,
      stderr=output,
      env={**os.environ, **device.environment()},
      pass_fds=(f.fileno(),),
      preexec_fn=device.prepare(),
      start_new_session=True,  # Ctrl-C is for the sweep, which tells its runs.
    )
  return _Started(run, process, time.monotonic())


class Runner:
  """What is to be trained, is being trained, and failed."""

  def __init__(
    self,
    variants: Sequence[Variant],
    root: str,
    devices: Sequence[Device],
    say: Callable[[str], None],
  ):
    """Checks that nothing else was trained there; ValueError if it was."""
    self._variants = variants
    self._root = root
    self._devices = devices
    self._say = say
    self._waiting: list[Run] = []
    self._running: dict[Device, _Started] = {}
    self._seconds: dict[Run, float] = {}  # Of what was trained.
    self._total = sum(variant.num_runs for variant in variants)
    self._done: set[Run] = set()
    self.failures: dict[Run, str] = {}
    for variant in variants:
      for rate in variant.learning_rates:
        for run in {*variant.trials(), *variant.runs(rate)}:
          run.check(root)

  def run(self) -> None:
    """Trains all; returns when nothing is left.

    Raises:
      KeyboardInterrupt: if it is told to stop, when all runs have saved.
    """
    for variant in self._variants:
      for run in variant.trials():
        self._add(run)
    for variant in self._variants:
      self._add_seeds(variant)
    if self._done:
      self._say(
        f'{len(self._done)} of {self._total} runs were finished before.'
      )
    with _sigterm_as_interrupt():
      try:
        while self._waiting or self._running:
          self._start_and_reap()
          time.sleep(POLL_SECONDS)
      except KeyboardInterrupt:
        self._stop()
        raise

  def _add(self, run: Run) -> None:
    if run.evaluations(self._root) is None:
      self._waiting.append(run)
    else:
      self._done.add(run)

  def _add_seeds(self, variant: Variant) -> None:
    """The other seeds, once all learning rates have been tried."""
    trials = set(variant.trials())
    if not trials <= self._done | self.failures.keys():
      return
    rate = plan.best(variant, self._root)
    if rate is not None:
      for run in variant.runs(rate)[1:]:
        self._add(run)

  def _start_and_reap(self) -> None:
    for device in self._devices:
      started = self._running.get(device)
      if started is not None and started.process.poll() is not None:
        del self._running[device]
        self._finish(started)
      if device not in self._running and self._waiting:
        run = self._waiting.pop(0)
        self._running[device] = _start(run, self._root, device)

  def _finish(self, started: _Started) -> None:
    run, seconds = started.run, time.monotonic() - started.since
    evaluations = run.evaluations(self._root)
    if evaluations is None:
      text = (pathlib.Path(run.workdir(self._root)) / OUTPUT).read_text(
        errors='replace'
      )
      lines = text.strip().splitlines() or ['it said nothing']
      status = started.process.returncode
      self.failures[run] = f'{lines[-1].strip()} (status {status})'
      said = f'FAILED: {self.failures[run]}'
    else:
      self._done.add(run)
      self._seconds[run] = seconds
      said = ', '.join(
        f'{split} {_metric(run)} {100 * e[_metric(run)]:.2f} %'
        for split, e in evaluations.items()
      )
    if run.seed == 0:
      self._add_seeds(run.variant)
    count = len(self._done) + len(self.failures)
    self._say(
      f'[{count}/{self._total}] {run.title}: {said}'
      f' ({history.duration(seconds)}). {self._expectation()}'
    )

  def _expectation(self) -> str:
    """When the rest will be done, from how long each took."""
    left = self._total - len(self._done) - len(self.failures)
    if not left:
      return 'That was the last one.'
    if not self._seconds:
      return f'{left} to go.'
    mean = sum(self._seconds.values()) / len(self._seconds)
    by_variant: dict[Variant, list[float]] = {}
    for run, seconds in self._seconds.items():
      by_variant.setdefault(run.variant, []).append(seconds)

    def expected(variant: Variant) -> float:
      times = by_variant.get(variant, [mean])
      ended = self._done | self.failures.keys()
      runs = sum(run.variant == variant for run in ended)
      return (variant.num_runs - runs) * sum(times) / len(times)

    seconds = sum(map(expected, self._variants)) / len(self._devices)
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(seconds=seconds)
    return (
      f'{left} to go, until about {end:%H:%M} UTC'
      f' (in {history.duration(seconds)}).'
    )

  def _stop(self) -> None:
    """Tells all runs to save and waits until they have."""
    self._say('Stopping; each run saves first.')
    for started in self._running.values():
      started.process.terminate()
    for started in self._running.values():
      started.process.wait()


def _metric(run: Run) -> str:
  return benchmarks.create(**run.config().task).best_metric


@contextlib.contextmanager
def _sigterm_as_interrupt():
  """A scheduler's SIGTERM stops a sweep as Ctrl-C does."""
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
