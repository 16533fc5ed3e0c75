"""Trains the runs of a sweep, one at a time on each device."""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import datetime
import signal
import time

from experiments import history
from scripts.sweep import plan
from scripts.sweep.plan import Run, Variant
from scripts.sweep.training import Device, Training

POLL_SECONDS = 0.2


class Runner:
  """The runs of a sweep: waiting, running, done and failed."""

  def __init__(
    self,
    variants: Sequence[Variant],
    root: str,
    devices: Sequence[Device],
    say: Callable[[str], None],
  ):
    """Raises ValueError if a directory has a run of another config."""
    self._variants = variants
    self._root = root
    self._devices = devices
    self._say = say
    self._waiting: list[Run] = []
    self._running: dict[Device, Training] = {}
    # Variants may share trials.
    self._trials = tuple(dict.fromkeys(y for x in variants for y in x.trials()))
    self._total = len(self._trials) + sum(x.num_seeds for x in variants)
    self._done: dict[Run, float] = {}  # The seconds that each took.
    self.failures: dict[Run, str] = {}
    for variant in variants:
      runs = [x for rate in variant.learning_rates for x in variant.runs(rate)]
      for run in [*variant.trials(), *runs]:
        run.check(root)

  def run(self) -> None:
    """Trains all runs, and returns when none is left.

    Raises:
      KeyboardInterrupt: on SIGINT or SIGTERM, once all runs have saved.
    """
    self._waiting += self._unfinished(self._trials)
    for variant in reversed(self._variants):  # Each one's go in front.
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

  def _unfinished(self, runs: Sequence[Run]) -> list[Run]:
    """Returns the runs that are left to train, and notes the others."""
    left = [run for run in runs if run.evaluations(self._root) is None]
    for run in set(runs) - set(left):
      done = history.read(run.workdir(self._root))
      self._done[run] = done.seconds_at_work()
    return left

  def _add_seeds(self, variant: Variant) -> None:
    """Puts the seeds next, once all learning rates have been tried.

    So a sweep that is stopped early has whole rows.
    """
    trials = set(variant.trials())
    if not trials <= self._done.keys() | self.failures.keys():
      return
    rate = plan.best(variant, self._root)
    if rate is None:  # All have failed, so there is none to repeat.
      self._total -= variant.num_seeds
      return
    self._waiting[:0] = self._unfinished(variant.runs(rate))

  def _start_and_reap(self) -> None:
    for device in self._devices:
      training = self._running.get(device)
      if training is not None and training.has_ended():
        del self._running[device]
        self._finish(training)
      if device not in self._running and self._waiting:
        run = self._waiting.pop(0)
        self._running[device] = Training(run, self._root, device)

  def _finish(self, training: Training) -> None:
    run, seconds = training.run, time.monotonic() - training.begin
    evaluations = run.evaluations(self._root)
    if evaluations is not None:
      self._done[run] = seconds
      metric = run.task().best_metric
      said = ', '.join(
        f'{split} {metric} {100 * end[metric]:.2f} %'
        for split, end in evaluations.items()
      )
    elif training.process is None:
      # The process of an earlier sweep did not finish it.
      self._waiting.insert(0, run)
      return
    else:
      self.failures[run] = training.last_words()
      said = f'FAILED: {self.failures[run]}'
    if run.is_trial:
      for variant in reversed(self._variants):
        if run in variant.trials():
          self._add_seeds(variant)
    count = len(self._done) + len(self.failures)
    self._say(
      f'[{count}/{self._total}] {run.title}: {said}'
      f' ({history.duration(seconds)}). {self._expectation()}'
    )

  def _expectation(self) -> str:
    """Says when the rest will be done, judging by the runs so far."""
    left = self._total - len(self._done) - len(self.failures)
    if not left:
      return 'That was the last one.'
    if not self._done:
      return f'{left} to go.'
    ended = self._done.keys() | self.failures.keys()
    trials = [x for x in self._trials if x not in ended]
    num_ended = collections.Counter(
      run.variant.title for run in ended if not run.is_trial
    )
    seconds = sum(x.length * self._seconds_of_run(x.variant) for x in trials)
    seconds += sum(
      (x.num_seeds - num_ended[x.title]) * self._seconds_of_run(x)
      for x in self._variants
    )
    seconds /= len(self._devices)
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(seconds=seconds)
    return (
      f'{left} to go, until about {end:%H:%M} UTC'
      f' (in {history.duration(seconds)}).'
    )

  def _seconds_of_run(self, variant: Variant) -> float:
    """How long a run of the variant takes, or of any where none is done."""
    done = self._done
    alike = [x for x in done if x.variant.title == variant.title] or list(done)
    return sum(done[x] for x in alike) / sum(x.length for x in alike)

  def _stop(self) -> None:
    """Stops all runs, and waits until they have saved."""
    self._say('Stopping; each run saves first.')
    trainings = self._running.values()
    processes = [x.process for x in trainings if x.process is not None]
    for process in processes:
      process.terminate()
    for process in processes:
      process.wait()


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
  """Makes a scheduler's SIGTERM stop a sweep as Ctrl-C does."""
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
