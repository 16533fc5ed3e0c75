"""Archives and folders of strangers, read in place: nothing is unpacked."""

from collections.abc import Iterator
import contextlib
import dataclasses
import os
from typing import BinaryIO
import zipfile

from experiments import errors
from experiments.benchmarks import listing
from experiments.benchmarks.modelnet40.archives import folders, tars, zips
from experiments.benchmarks.modelnet40.archives.entries import (
  ArchiveError,
  Entry,
)


@dataclasses.dataclass(frozen=True)
class Archive:
  """The files in an archive or a folder."""

  path: str
  entries: tuple[Entry, ...]  # By name; without hidden files, or macOS's own.


@contextlib.contextmanager
def open_archive(path: str) -> Iterator[Archive]:
  """Opens a zip, a tar, which may be compressed by gzip, or a folder.

  The content says which it is, whatever its name. The entries can be read until
  the context ends.

  Raises:
    FileNotFoundError: if nothing is there.
    ArchiveError: if it is no archive, or is damaged; or if it has links, two
      entries of one name, or names that lead out of a folder, which no honestly
      packed data set has.
  """
  with contextlib.ExitStack() as stack:
    try:
      if os.path.isdir(path):
        found = folders.entries(path)
      elif os.path.isfile(path):
        file = stack.enter_context(open(path, 'rb'))
        found = _packed(file, stack)
      else:
        raise FileNotFoundError(f'There is no file or folder {path!r}.')
    except ArchiveError as error:
      raise ArchiveError(f'{path}: {error}') from error
    found.sort(key=lambda entry: entry.name)
    yield Archive(
      path, tuple(x for x in found if not listing.is_clutter(x.name))
    )


def _packed(file: BinaryIO, stack: contextlib.ExitStack) -> list[Entry]:
  """Lists the entries; what reads them is closed with the stack."""
  kind = 'zip'
  try:
    if tar := tars.unpacked(file):
      kind = 'tar'
      size = os.fstat(file.fileno()).st_size
      return tars.entries(stack.enter_context(tar), size)
    return zips.entries(stack.enter_context(zipfile.ZipFile(file)))
  except ArchiveError:
    raise
  except Exception as error:  # The libraries raise whatever they stumble on.
    if errors.is_fault(error):
      raise
    file.seek(0)
    raise ArchiveError(
      f'not a whole {kind} archive: {error}; it begins with {file.read(8)!r}.'
      ' Download the archive again (a zip, .tar or .tar.gz), and leave it as it'
      ' is, or unpack it into a folder.'
    ) from error
