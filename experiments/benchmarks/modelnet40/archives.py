"""Reads zip archives in place: nothing is ever unpacked to the disk."""

import os
import re
import stat
import zipfile
import zlib

from experiments import errors
from experiments.benchmarks import listing

MAX_BYTES = 512 * 2**20  # Of one entry, unpacked.
MAX_RATIO = 200  # Unpacked to packed; meshes in text reach about 10.
SMALL = 2**20  # Bytes that are harmless at any ratio.


class ArchiveError(ValueError):
  """An archive, or an entry of one, that cannot or should not be read."""


def open_archive(path: str) -> zipfile.ZipFile:
  """Opens a zip archive, for the caller to close, and checks the names in it.

  Raises:
    FileNotFoundError: if there is no such file, or it is a folder.
    ArchiveError: if it is not a zip archive, or is damaged; or if it has two
      entries of one name, links, or names that lead out of a directory, which
      no honestly packed data set has.
  """
  if os.path.isdir(path):
    raise FileNotFoundError(
      f'{path} is a folder, with {listing.inside(path)} in it;'
      ' give the zip archive as it was downloaded, not unpacked.'
    )
  if not os.path.isfile(path):
    raise FileNotFoundError(f'There is no file {path!r}.')
  try:
    archive = zipfile.ZipFile(path)
  except Exception as error:  # zipfile raises whatever it stumbles on.
    if errors.is_fault(error):
      raise
    with open(path, 'rb') as file:
      start = file.read(8)
    raise ArchiveError(
      f'{path} is not a whole zip archive: {error}; it begins with {start!r}.'
      ' Download the zip archive again, and leave it as it is.'
    ) from error
  names = set()
  for entry in archive.infolist():
    problem = _problem(entry)
    if entry.filename in names:
      problem = 'is there twice'
    names.add(entry.filename)
    if problem:
      archive.close()
      raise ArchiveError(f'{path}: entry {entry.filename[:80]!r} {problem}.')
  return archive


def _problem(entry: zipfile.ZipInfo) -> str | None:
  name = entry.orig_filename.replace('\\', '/')
  if name.startswith('/') or re.match('[A-Za-z]:', name):
    return 'has an absolute name'
  if '..' in name.split('/'):
    return 'leads out of the archive'
  if stat.S_ISLNK(entry.external_attr >> 16):
    return 'is a link'
  return None


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
  """Unpacks an entry in memory, and checks its checksum.

  Raises ArchiveError if it is damaged, too large or suspiciously well packed.
  """
  size, packed = entry.file_size, entry.compress_size
  if size > MAX_BYTES or size > SMALL + MAX_RATIO * packed:
    raise ArchiveError(
      f'it claims {size} bytes, of {packed} bytes packed: too many.'
    )
  if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raise ArchiveError(f'it is packed by method {entry.compress_type}.')
  try:
    return archive.read(entry)  # Reads at most file_size bytes.
  except (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # It is encrypted.
    ValueError,
  ) as error:
    raise ArchiveError(f'it cannot be unpacked: {error}') from error
