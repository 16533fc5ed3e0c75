"""Indexes tar shards: where each sample's image is, and its label.

The index is made once, from the members' headers: images are skipped, not read.
It is a file beside the shards, or in a cache folder if they are read-only. Its
name has a sum of the shards' names, sizes and times of change, so an index of
other shards is never taken. It is written whole or not at all, so any number of
processes may make it at once.
"""

from collections.abc import Iterable, Iterator
import contextlib
import hashlib
import itertools
import json
import logging
import os
import posixpath
import re
import tarfile
import tempfile
from typing import BinaryIO, cast

import numpy as np

from experiments import storage

log = logging.getLogger(__name__)

IMAGES = ('jpg', 'jpeg', 'png')
LABEL = 'cls'
MAX_NAME = 255  # Bytes.
MAX_HEADER = 2**20  # Bytes: of a member's header, with its long names.
MAX_LABEL = 32  # Bytes.
# A size of -1: no image; a label of -1: none that is a number.
FIELDS = {'shard': 'i4', 'offset': 'i8', 'size': 'i8', 'label': 'i4'}


def samples(split: str, paths: list[str]) -> np.ndarray:
  """Returns all samples, in order, from the index or from the shards.

  Args:
    split: names the index.
    paths: the shards.

  Returns:
    [n] of FIELDS and 'name': bytes, without folders.

  Raises:
    ValueError: if a shard is damaged or has no samples.
    OSError: if a shard cannot be read or the index cannot be written.
  """
  stats = [os.stat(path) for path in paths]
  facts = [
    (os.path.basename(path), stat.st_size, stat.st_mtime_ns)
    for path, stat in zip(paths, stats, strict=True)
  ]
  sizes = np.array([stat.st_size for stat in stats])
  total = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
  name = f'{split}-index-{total}.npy'
  beside = os.path.dirname(paths[0])
  cache = os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'),
    'perceiver',
  )
  for folder in (beside, cache):
    found = _load(os.path.join(folder, name), sizes)
    if found is not None:
      return found
  folder = beside if os.access(beside, os.W_OK) else cache
  path = os.path.join(folder, name)
  with storage.writing(path):
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # Before the long work.
  log.info('Indexing %d shards in %s, which is done once.', len(paths), beside)
  made = _index(paths)
  with storage.writing(path):
    _save(path, made)
  log.info('Wrote the index of %d samples to %s.', len(made), path)
  if folder == beside:
    _remove_others(beside, split, name)
  return made


def _load(path: str, sizes: np.ndarray) -> np.ndarray | None:
  """Returns the index if it is one of shards of these sizes."""
  try:
    # Mapping compares the size that the header claims with the file's.
    found = np.array(np.load(path, mmap_mode='r', allow_pickle=False))
  except (OSError, ValueError, EOFError):
    return None
  dtype = found.dtype
  if dtype.names != (*FIELDS, 'name') or found.ndim != 1 or not len(found):
    return None
  if any(dtype[field] != np.dtype(kind) for field, kind in FIELDS.items()):
    return None
  if dtype['name'].kind != 'S' or dtype['name'].itemsize > MAX_NAME:
    return None
  shard, offset, size = found['shard'], found['offset'], found['size']
  if shard.min() < 0 or shard.max() >= len(sizes) or offset.min() < 0:
    return None
  # Sums of hostile numbers may overflow, differences of these do not.
  return found if (size <= sizes[shard] - offset).all() else None


def _save(path: str, made: np.ndarray) -> None:
  folder, name = os.path.split(path)
  with tempfile.NamedTemporaryFile(
    dir=folder, prefix=f'.{name}.', delete=False
  ) as file:
    try:
      np.save(file, made, allow_pickle=False)
      file.flush()
      os.fchmod(file.fileno(), 0o644)  # Others may share the data.
      os.replace(file.name, path)
    except BaseException:
      os.unlink(file.name)
      raise


def _remove_others(folder: str, split: str, name: str) -> None:
  """Removes indices of shards as they were before."""
  pattern = re.compile(rf'{split}-index-[0-9a-f]{{16}}\.npy')
  for other in os.listdir(folder):
    if other != name and pattern.fullmatch(other):
      with contextlib.suppress(FileNotFoundError):  # Another process did it.
        os.unlink(os.path.join(folder, other))


def _index(paths: list[str]) -> np.ndarray:
  parts = []
  for shard, path in enumerate(paths):
    found = list(_samples(path))
    if not found:
      raise ValueError(
        f'{path} has no samples: no <key>.{LABEL} and no <key>.'
        f'{" or .".join(IMAGES)}.'
      )
    names, *columns = zip(*found, strict=True)
    encoded = np.array(names)
    part = np.empty(len(found), [*FIELDS.items(), ('name', encoded.dtype)])
    part['shard'], part['name'] = shard, encoded
    part['offset'], part['size'], part['label'] = columns
    parts.append(part)
    if shard % 100 == 99:
      log.info('Indexed %d of %d shards.', shard + 1, len(paths))
  return np.concatenate(parts)


def _samples(path: str) -> Iterator[tuple[bytes, int, int, int]]:
  """Yields each sample's name, its image's offset and size, and its label."""
  with open(path, 'rb', buffering=0) as file:
    for key, group in itertools.groupby(_members(path, file), _key):
      members: dict[str, tarfile.TarInfo] = {}
      for member in group:
        suffix = posixpath.basename(member.name).partition('.')[2].lower()
        if suffix in members:
          raise ValueError(
            f'{path} has {member.name} twice in a sample: at bytes'
            f' {members[suffix].offset} and {member.offset}.'
          )
        members[suffix] = member
      image = next((members[x] for x in IMAGES if x in members), None)
      label = members.get(LABEL)
      if image is None and label is None:
        continue
      name = posixpath.basename(image.name if image else key)
      yield (
        name.encode('utf-8', 'surrogateescape'),
        image.offset_data if image else 0,
        image.size if image else -1,
        _label(file, label),
      )


def _key(member: tarfile.TarInfo) -> str:
  folder, name = posixpath.split(member.name)
  return posixpath.join(folder, name.partition('.')[0])


def _label(file: BinaryIO, member: tarfile.TarInfo | None) -> int:
  """Returns the number in a member; -1 if there is none."""
  if member is None or member.size > MAX_LABEL:
    return -1
  text = os.pread(file.fileno(), member.size, member.offset_data)
  # At most 9 digits, so that it fits.
  match = re.fullmatch(rb'\s*(\d{1,9})\s*', text)
  return int(match[1]) if match else -1


class _Headers:
  """A file from which `tarfile` may read headers, but nothing large."""

  def __init__(self, file: BinaryIO):
    self._file = file
    self.seek, self.tell = file.seek, file.tell

  def read(self, size: int) -> bytes:
    if size > MAX_HEADER:
      raise tarfile.ReadError(f'a header of {size} bytes')
    return self._file.read(size)


def _members(path: str, file: BinaryIO) -> Iterable[tarfile.TarInfo]:
  """Yields the plain files of a shard.

  Raises ValueError, with the place, if it is not a whole and plain tar.
  """
  if file.read(2) == b'\x1f\x8b':
    raise ValueError(
      f'{path} is compressed with gzip, so images cannot be read at random.'
      ' Unpack it: add .gz to its name, then gunzip.'
    )
  file.seek(0)
  end = 0
  try:
    headers = cast(BinaryIO, _Headers(file))
    with tarfile.open(fileobj=headers, mode='r:') as tar:
      for member in tar:
        name = posixpath.basename(member.name)
        if member.isdir() or name.startswith('.'):  # Also macOS's ._ files.
          continue
        if not member.isreg() or member.issparse():
          raise ValueError(f'{member.name!r} is not a plain file')
        if len(name.encode('utf-8', 'surrogateescape')) > MAX_NAME:
          raise ValueError(f'a name has {len(name)} characters')
        yield member
      end = tar.offset
  # Its readers of headers are written in Python.
  except (
    *(tarfile.TarError, ValueError, LookupError, OverflowError),
    *(EOFError, RecursionError),
  ) as error:
    raise ValueError(
      f'{path} is not a whole tar file of plain files: {error}. Write or'
      ' download it again.'
    ) from error
  # `tarfile` ends without an error at a header that is damaged.
  if os.pread(file.fileno(), tarfile.BLOCKSIZE, end).strip(b'\0'):
    raise ValueError(
      f'{path} is damaged: at byte {end} there is no header. Download it again.'
    )
