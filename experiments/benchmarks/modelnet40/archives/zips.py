"""Lists zip archives, and reads their entries in memory."""

import functools
import stat
import zipfile
import zlib

from experiments.benchmarks.modelnet40.archives.entries import (
  ArchiveError,
  check_count,
  check_names,
  check_size,
  Entry,
)


def entries(archive: zipfile.ZipFile) -> list[Entry]:
  """Lists the files of an archive.

  Raises ArchiveError if names are bad or entries are links.
  """
  infos = archive.infolist()
  check_count(len(infos))
  check_names(info.filename for info in infos)
  for info in infos:
    if stat.S_ISLNK(info.external_attr >> 16):
      raise ArchiveError(f'entry {info.filename[:80]!r} is a link.')
  return [
    Entry(
      info.filename.removeprefix('./'),
      info.header_offset,
      functools.partial(_read, archive, info),
    )
    for info in infos
    if not info.is_dir()
  ]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
  """Unpacks an entry in memory, and checks its checksum.

  Raises ArchiveError if it is damaged, too large or suspiciously well packed.
  """
  check_size(info.file_size, info.compress_size)
  if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raise ArchiveError(f'it is packed by method {info.compress_type}.')
  try:
    return archive.read(info)  # Reads at most file_size bytes.
  except (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # It is encrypted.
    ValueError,
  ) as error:
    raise ArchiveError(f'it cannot be unpacked: {error}') from error
