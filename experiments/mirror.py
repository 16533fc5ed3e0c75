"""Folders in stores for those who write to disks alone, and when to copy."""

import os
import tempfile
import time

from etils import epath

from experiments import storage


class Mirror:
  """A folder for those who write to disks alone.

  It is the folder itself, or, where that is in a store, a temporary one whose
  files are copied to it, each over the one that is there.
  """

  def __init__(self, folder: epath.Path):
    self._folder = folder
    self._temporary = None
    self.local = os.fspath(folder)  # The one to write to.
    if not storage.is_local(folder):
      self._temporary = tempfile.TemporaryDirectory(prefix='to-store-')
      self.local = self._temporary.name

  def flush(self) -> None:
    """Copies what there is; raises OSError as `storage.writing`."""
    if self._temporary:
      for path in storage.files(storage.path(self.local)):
        target = self._folder / path.relative_to(self.local)
        storage.write(target, path.read_bytes())

  def close(self) -> None:
    """Copies what there is, and removes the temporary folder."""
    try:
      self.flush()
    finally:
      if self._temporary:
        self._temporary.cleanup()


class Pace:
  """Says when to do again what takes time, so that it takes little of it."""

  SHARE = 0.01  # Of the time.
  SECONDS = 10.0  # Between two times, at least.

  def __init__(self) -> None:
    self._next = time.monotonic() + self.SECONDS

  def is_due(self) -> bool:
    return time.monotonic() >= self._next

  def took(self, seconds: float) -> None:
    """Tells how long it took this time."""
    wait = max(self.SECONDS, seconds / self.SHARE)
    self._next = time.monotonic() + wait
