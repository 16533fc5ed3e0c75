"""Lists folders with their subfolders, and reads their files."""

import functools
import os

from experiments.benchmarks import listing
from experiments.benchmarks.images import files
from experiments.benchmarks.modelnet40.archives.entries import (
  ArchiveError,
  check_count,
  Entry,
)
from experiments.errors import DamagedRecordError


def entries(folder: str) -> list[Entry]:
  """Lists the files of an unpacked archive.

  Raises:
    ArchiveError: if there are links, which may lead out of the folder.
    OSError: if a subfolder cannot be read.
  """
  found: list[Entry] = []
  for place, subfolders, names in os.walk(folder, onerror=_raise):
    for group in (subfolders, names):
      group[:] = [name for name in group if not listing.is_clutter(name)]
      for name in group:
        if os.path.islink(path := os.path.join(place, name)):
          inside = os.path.relpath(path, folder)
          raise ArchiveError(f'{inside!r} is a link; put its files there.')
    for name in names:
      path = os.path.join(place, name)
      read = functools.partial(_read, path)
      found.append(Entry(os.path.relpath(path, folder), 0, read))
    check_count(len(found))
  return found


def _raise(error: OSError) -> None:
  raise error


def _read(path: str) -> bytes:
  try:
    return files.read(path)
  except DamagedRecordError as error:
    raise ArchiveError(str(error)) from error
