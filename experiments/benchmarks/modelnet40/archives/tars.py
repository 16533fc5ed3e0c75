"""Lists tar archives, also compressed ones, and reads their entries in memory.

A compressed tar has no index. It is unpacked once to be listed, and again from
its beginning whenever an entry stands before the last one that was read.
"""

import functools
import gzip
import tarfile
from typing import BinaryIO, cast
import zlib

from experiments.benchmarks.modelnet40.archives.entries import (
  ArchiveError,
  check_count,
  check_names,
  check_size,
  Entry,
  MAX_RATIO,
  SMALL,
)

GZIP = b'\x1f\x8b'
MAGIC = slice(257, 262)  # Of the first header.
MAX_HEADERS = 2**27  # Bytes of all names and the like; tarfile keeps them.


def unpacked(file: BinaryIO) -> BinaryIO | None:
  """Returns the tar in a file, at its beginning; None if there is none."""
  start = file.read(MAGIC.stop)
  file.seek(0)
  if start.startswith(GZIP):
    return cast(BinaryIO, gzip.GzipFile(fileobj=file))
  return file if start[MAGIC] == b'ustar' else None


def entries(tar: BinaryIO, packed: int) -> list[Entry]:
  """Lists the files of a tar from `unpacked`, whose file has `packed` bytes.

  Raises:
    ArchiveError: if names are bad, entries are links, devices or the like, the
      tar has other than entries, or it unpacks to suspiciously many bytes.
    Exception: nearly any, from tarfile, if it is damaged.
  """
  headers = _Headers(tar)
  archive = tarfile.TarFile(fileobj=cast(BinaryIO, headers))
  found = []
  count = 0
  while member := archive.next():
    check_count(count := count + 1)
    end = member.offset_data + member.size
    # Checked before tarfile goes to this end.
    if member.size < 0 or end > SMALL + MAX_RATIO * packed:
      raise ArchiveError(
        f'entry {member.name[:80]!r} claims {member.size} bytes.'
      )
    if not (member.isdir() or (member.isreg() and not member.issparse())):
      what = 'a link' if member.issym() or member.islnk() else 'no plain file'
      raise ArchiveError(f'entry {member.name[:80]!r} is {what}.')
    if member.isreg():
      read = functools.partial(_read, tar, member.offset_data, member.size)
      name = member.name.removeprefix('./')
      found.append(Entry(name, member.offset_data, read))
  # tarfile takes anything but a header for the end.
  tar.seek(archive.offset)
  if any(tar.read(tarfile.BLOCKSIZE)):
    last = f'after {found[-1].name!r}' if found else 'at its beginning'
    raise ArchiveError(f'it is damaged {last}.')
  check_names(entry.name for entry in found)
  return found


class _Headers:
  """A tar as tarfile sees it, which reads headers alone."""

  def __init__(self, tar: BinaryIO):
    self._tar = tar
    self._left = MAX_HEADERS

  def read(self, size: int) -> bytes:
    self._left -= size
    if size < 0 or self._left < 0:
      raise ArchiveError(f'it has more than {MAX_HEADERS} bytes of headers.')
    return self._tar.read(size)

  def seek(self, position: int) -> int:
    return self._tar.seek(position)

  def tell(self) -> int:
    return self._tar.tell()


def _read(tar: BinaryIO, position: int, size: int) -> bytes:
  check_size(size, size)
  try:
    tar.seek(position)
    data = tar.read(size)
  except (EOFError, OSError, zlib.error) as error:
    raise ArchiveError(f'it cannot be unpacked: {error}') from error
  if len(data) != size:
    raise ArchiveError(f'it has {len(data)} of its {size} bytes.')
  return data
