"""A run that tells what it does, and may end itself at a chosen moment.

python -m tests.torture.victim SETTINGS --config=… --workdir=…

SETTINGS is a `Settings` as JSON; the rest is what experiments.run takes.
"""

from experiments import host_memory

if __name__ == '__main__':
  # Before the imports that take seconds, or they would be done twice.
  host_memory.restart_with_large_pages()

from collections.abc import Callable, Iterator
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from typing import Any
from unittest import mock

from absl import app

from experiments import checkpoint, pipeline, run, seal, watchdog

# Moments to aim at.
MOMENTS = ('save', 'commit', 'delete', 'restore', 'compile', 'evaluation')
# As what `watchdog` is told begins with.
ACTIVITIES = {
  'saving': 'save',
  'compilation': 'compile',
  'an evaluation': 'evaluation',
  'step': 'step',
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What to tell, and how to end."""

  log: str  # A file on this machine, to which lines of JSON are added.
  moment: str = ''  # One of `MOMENTS`, or 'step'; '': none.
  number: int = 1  # The how many-th such moment of this launch.
  delay: float = 0.0  # Seconds after it.
  sleep: bool = False  # Instead of dying, it stands still for ever.


class _Ending:
  """Of the process, when its moment has come."""

  def __init__(self, settings: Settings):
    self._settings = settings
    self._number = 0

  def at(self, moment: str, do: Callable[[], Any] | None = None) -> None:
    """Says that a moment has come; `do` is done before the end, if it is."""
    if moment != self._settings.moment:
      return
    self._number += 1
    if self._number != self._settings.number:
      return
    if do is not None:
      do()
    if self._settings.sleep:
      time.sleep(10**6)
    elif self._settings.delay:
      threading.Timer(self._settings.delay, _die).start()
    else:
      _die()


def _die() -> None:
  os.kill(os.getpid(), signal.SIGKILL)


def prepare(settings: Settings) -> None:
  """Lets this process tell, and end, as the settings say."""
  ending = _Ending(settings)
  _tell_batches(settings.log)
  _tell_activities(settings.log, ending)
  _watch_files(ending)


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
  """For as long as the process lives."""
  mock.patch.object(owner, name, function).start()


def _tell(log: str, **what: Any) -> None:
  with open(log, 'a') as file:
    file.write(json.dumps({'time': time.time(), **what}) + '\n')


def _tell_batches(log: str) -> None:
  """The digest of each batch's examples, as augmented and as masked."""
  train_batches = pipeline.train_batches

  def told(*arguments: Any, **settings: Any) -> Iterator[Any]:
    step = settings['position'] // settings['batch_size']
    for batch in train_batches(*arguments, **settings):
      step += 1
      digest = hashlib.sha256()
      for name in sorted(batch):
        digest.update(name.encode() + batch[name].tobytes())
      _tell(log, step=step, batch=digest.hexdigest())
      yield batch

  _replace(pipeline, 'train_batches', told)


def _tell_activities(log: str, ending: _Ending) -> None:
  begin = watchdog.begin
  restore = checkpoint.Checkpoints.restore
  find_damage, write = seal.find_damage, seal.write

  def told(activity: str) -> None:
    begin(activity)
    _tell(log, activity=activity)
    for start, moment in ACTIVITIES.items():
      if activity.startswith(start):
        ending.at(moment)

  def restored(*arguments: Any) -> Any:
    ending.at('restore')
    return restore(*arguments)

  def looked_at(*arguments: Any) -> Any:
    ending.at('restore')
    return find_damage(*arguments)

  def sealed(directory: Any, **settings: Any) -> None:
    write(directory, **settings)
    _tell(log, sealed=directory.name)

  _replace(watchdog, 'begin', told)
  _replace(checkpoint.Checkpoints, 'restore', restored)
  _replace(seal, 'find_damage', looked_at)
  _replace(seal, 'write', sealed)


def _watch_files(ending: _Ending) -> None:
  """Checkpoints as they are committed, and as they are deleted."""
  rename, rmtree = os.rename, shutil.rmtree

  def renamed(source: Any, target: Any, **options: Any) -> None:
    name = os.path.basename(os.fspath(target))
    is_commit = name.isdecimal() and 'deleting' not in os.fspath(target)
    if is_commit:
      ending.at('commit')  # Just before, and just after.
    rename(source, target, **options)
    if is_commit:
      ending.at('commit')

  def removed(path: Any, *arguments: Any, **options: Any) -> None:
    if 'deleting' in os.fspath(path):
      ending.at('delete', lambda: _remove_some(os.fspath(path)))
    rmtree(path, *arguments, **options)

  _replace(os, 'rename', renamed)
  _replace(shutil, 'rmtree', removed)


def _remove_some(folder: str) -> None:
  for directory, _, names in os.walk(folder):
    for name in names:
      if random.random() < 0.5:
        os.remove(os.path.join(directory, name))


if __name__ == '__main__':
  prepare(Settings(**json.loads(sys.argv.pop(1))))
  app.run(run.main, flags_parser=run.parse_flags)
