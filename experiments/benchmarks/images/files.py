"""Opens people's own files, if they are regular files and not too large."""

import os
import stat
from typing import BinaryIO

from experiments.errors import DamagedRecordError

MAX_BYTES = 512 * 2**20


def check_regular(path: str) -> int:
  """Returns the size of a regular file.

  Raises:
    DamagedRecordError: for a folder, a device or the like: opening one may wait
      for ever, or do something.
    OSError: if there is no such file.
  """
  try:
    status = os.stat(path)
  except ValueError as error:  # A null character.
    raise DamagedRecordError(f'It is not a path: {error}.') from error
  if not stat.S_ISREG(status.st_mode):
    raise DamagedRecordError('It is not a regular file.')
  return status.st_size


def open_regular(path: str) -> BinaryIO:
  """Opens a file to read, of at most MAX_BYTES. Raises as `check_regular`."""
  size = check_regular(path)
  if size > MAX_BYTES:
    raise DamagedRecordError(
      f'It has {size} bytes; at most {MAX_BYTES} are read.'
    )
  # If a FIFO has taken its place meanwhile, this does not wait for a writer.
  opener = lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
  return open(path, 'rb', opener=opener)


def read(path: str) -> bytes:
  """Returns a file's content. Raises what `open_regular` raises."""
  with open_regular(path) as file:
    return file.read(MAX_BYTES)
