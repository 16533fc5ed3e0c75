"""Folders in stores for libraries that write to disks only.

TensorBoard's writer and JAX's profiler cannot write to a store.
"""

import os
import tempfile

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
