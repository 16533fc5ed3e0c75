"""A run that logs what it does, and causes a fault at a chosen moment.

python -m tests.torture.victim SETTINGS --config=… --workdir=…

SETTINGS is a `Settings` as JSON; experiments.run takes the other arguments.
"""

from experiments import host_memory

if __name__ == '__main__':
  # Before the imports that take seconds, or they would be done twice.
  host_memory.restart_with_large_pages()

from collections.abc import Iterator
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import threading
import time
from typing import Any

from absl import app

from experiments import checkpoint, pipeline, seal, watchdog

# Moments by the beginning of what `watchdog.begin` is told. The others are
# 'start', 'batch', and what `Victim.see_file` sees.
ACTIVITIES = {
  'restoring': 'restore',
  'compilation': 'compile',
  'waiting': 'wait',
  'step': 'step',
  'an evaluation': 'evaluation',
  'saving': 'save',
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Which fault to cause, and when."""

  log: str  # Gets a line of JSON for each moment.
  moment: str = ''  # The one that triggers the fault; '': no fault.
  number: int = 1  # Which occurrence of the moment triggers it (1-based).
  delay: float = 0.0  # Seconds from the moment to the fault.
  # A signal's name; 'SLEEP': the thread sleeps for ever; 'KILL_WORKERS': data
  # workers are killed at each `number`-th moment; 'NONE': it is only logged.
  fault: str = 'SIGKILL'


class Victim:
  """Logs moments, and causes the fault when the chosen one has come."""

  def __init__(self, settings: Settings):
    self._settings = settings
    self._count = 0

  def meet(self, moment: str, what: Any = '', **more: Any) -> None:
    self._tell(moment, what, **more)
    if moment != self._settings.moment:
      return
    self._count += 1
    is_due = self._count == self._settings.number
    if self._settings.fault == 'KILL_WORKERS':
      is_due = self._count % self._settings.number == 0
    if not is_due:
      return
    if moment == 'delete':  # It is half done.
      for path in list(pathlib.Path(what).rglob('*')):
        if path.is_file() and random.random() < 0.5:
          path.unlink()
    if self._settings.delay:
      timer = threading.Timer(self._settings.delay, self._cause_fault)
      timer.daemon = True
      timer.start()
    else:
      self._cause_fault()

  def see_file(self, event: str, arguments: tuple[Any, ...]) -> None:
    """Meets moments of checkpoints: Python's audit hook, called before each."""
    if event not in ('open', 'os.rename', 'shutil.rmtree'):
      return
    path = arguments[1] if event == 'os.rename' else arguments[0]
    if isinstance(path, int):  # An open file's number.
      return
    path = pathlib.PurePath(os.fsdecode(path))
    is_deleted = checkpoint.DELETING in path.parts
    if event == 'shutil.rmtree' and is_deleted:
      self.meet('delete', str(path))
    elif event == 'open' and path.name == seal.MANIFEST:
      self.meet('restore', str(path))  # A seal is compared.
    elif event == 'os.rename' and path.name == seal.MANIFEST:
      self.meet('seal', path.parent.name)
    elif event == 'os.rename' and path.name.isdecimal() and not is_deleted:
      self.meet('commit', path.name)

  def see_activity(self, activity: str) -> None:
    begins = (
      x for start, x in ACTIVITIES.items() if activity.startswith(start)
    )
    self.meet(next(begins, 'other'), activity)

  def _cause_fault(self) -> None:
    fault = self._settings.fault
    self._tell('fault', fault)
    if fault == 'SLEEP':
      time.sleep(10**6)
    elif fault == 'KILL_WORKERS':
      for worker in multiprocessing.active_children():
        worker.kill()
    elif fault != 'NONE':
      os.kill(os.getpid(), signal.Signals[fault])

  def _tell(self, moment: str, what: Any, **more: Any) -> None:
    line = {'time': time.time(), 'moment': moment, 'what': what, **more}
    with open(self._settings.log, 'a') as file:
      file.write(json.dumps(line) + '\n')


def prepare(settings: Settings) -> None:
  """Lets this process log, and cause its fault, as the settings say."""
  victim = Victim(settings)
  begin, train_batches = watchdog.begin, pipeline.train_batches

  def begin_and_tell(activity: str) -> None:
    begin(activity)
    victim.see_activity(activity)

  def told_batches(*arguments: Any, **options: Any) -> Iterator[Any]:
    """Logs the digests of batches, as augmented and as masked."""
    first = options['position'] // options['batch_size'] + 1
    for step, batch in enumerate(train_batches(*arguments, **options), first):
      digest = hashlib.sha256()
      for name in sorted(batch):
        digest.update(name.encode() + batch[name].tobytes())
      victim.meet('batch', digest.hexdigest(), step=step)
      yield batch

  watchdog.begin = begin_and_tell
  pipeline.train_batches = told_batches  # type: ignore[assignment]
  sys.addaudithook(victim.see_file)
  victim.meet('start')


if __name__ == '__main__':
  prepare(Settings(**json.loads(sys.argv.pop(1))))
  from experiments import run  # It defines flags.

  app.run(run.main, flags_parser=run.parse_flags)
