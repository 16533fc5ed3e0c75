"""Folders in stores for libraries that write to disks only, and when to copy.

TensorBoard's writer and JAX's profiler cannot write to a store.
"""

import os
import tempfile
import time

from etils import epath

from experiments import storage


class Mirror:
  """A local folder to write to, in place of one that may be in a store.

  On a disk it is the folder itself. For one in a store it is a temporary
  folder, whose files are copied there and replace those that exist.
  """

  def __init__(self, folder: epath.Path):
    self._folder = folder
    self._temporary = None
    self.local = os.fspath(folder)  # The one to write to.
    if not storage.is_local(folder):
      self._temporary = tempfile.TemporaryDirectory(prefix='to-store-')
      self.local = self._temporary.name

  def flush(self) -> None:
    """Copies the files to the store. Raises OSError as `storage.writing`."""
    if self._temporary:
      for path in storage.files(storage.path(self.local)):
        target = self._folder / path.relative_to(self.local)
        storage.write(target, path.read_bytes())

  def close(self) -> None:
    """Copies the files to the store, and removes the temporary folder."""
    try:
      self.flush()
    finally:
      if self._temporary:
        self._temporary.cleanup()


class Pace:
  """Says when to repeat a task so that it takes a small share of the time."""

  SHARE = 0.01  # Of the time, for the task.
  SECONDS = 10.0  # Between two repetitions, at least.

  def __init__(self) -> None:
    self._next = time.monotonic() + self.SECONDS

  def is_due(self) -> bool:
    return time.monotonic() >= self._next

  def took(self, seconds: float) -> None:
    """Records how long the task took this time."""
    wait = max(self.SECONDS, seconds / self.SHARE)
    self._next = time.monotonic() + wait
