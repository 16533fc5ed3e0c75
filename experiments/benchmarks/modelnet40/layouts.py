"""Finds the shapes of a data set among the files of an archive or a folder.

- 'off': meshes, CLASS/train/NAME.off and CLASS/test/NAME.off.
- 'hdf5': point sets, ply_data_train0.h5 and so on, with shape_names.txt.
- 'txt': point sets, CLASS/NAME.txt, and the lists SET_train.txt, SET_test.txt.

Any folders may be above them.
"""

from collections.abc import Iterator
import contextlib
import functools
import posixpath
import re

import numpy as np

from experiments.benchmarks import listing
from experiments.benchmarks.modelnet40 import hdf5, off, shapes
from experiments.benchmarks.modelnet40.archives import Archive, ArchiveError
from experiments.benchmarks.modelnet40.archives.entries import Entry, MAX_BYTES
from experiments.benchmarks.modelnet40.shapes import Shape
from experiments.benchmarks.modelnet40.source import Dataset, NUM_POINTS
from perceiver.modalities import normalize_points

OFF = re.compile(r'(?:.*/)?([^/]+)/(train|test)/([^/]+)\.(?i:off)')
HDF5 = re.compile(r'(?:.*/)?(ply_data_(train|test)\d+)\.(?i:h5)')
NAMES = 'shape_names.txt'
MAX_TEXT = 2**25  # Bytes; 10,000 points with normals take 2**19.


def read_archive(archive: Archive, dataset: Dataset) -> list[Shape]:
  """Lists all shapes of an archive, in the order of their names.

  Point sets in HDF5 are read at once, others and meshes by `Shape.read`, for
  which the archive must stay open.

  Raises:
    ArchiveError: if the archive has no shape of the data set's form, or a list
      of shapes is missing or damaged; for point sets in HDF5 also if a file is
      damaged, because thousands of them would be missing.
  """
  find, looked_for = {
    'off': (_meshes, 'meshes (CLASS/train/NAME.off)'),
    'hdf5': (_point_sets, 'point sets (ply_data_train0.h5)'),
    'txt': (_text_sets, f'lists of shapes ({dataset.lists}_train.txt)'),
  }[dataset.form]
  found = find(archive, dataset)
  if not found:
    names = [entry.name for entry in archive.entries]
    raise ArchiveError(
      f'{archive.path} has no {looked_for}; it has {listing.summary(names)}'
      + (f', the first one {names[0][:80]!r}.' if names else '.')
    )
  return found


def _meshes(archive: Archive, dataset: Dataset) -> list[Shape]:
  del dataset
  found = []
  for entry in archive.entries:
    if match := OFF.fullmatch(entry.name):
      category, split, name = match.groups()
      name = f'{category}/{split}/{name}'
      read = functools.partial(_read_mesh, entry, name)
      found.append(Shape(name, split, category, entry.position, read))
  return found


def _read_mesh(entry: Entry, name: str) -> np.ndarray:
  return shapes.sample(off.parse(entry.read()), name)


def _point_sets(archive: Archive, dataset: Dataset) -> list[Shape]:
  del dataset
  matches = [(e, m) for e in archive.entries if (m := HDF5.fullmatch(e.name))]
  if not matches:
    return []
  categories = _read_words(archive, NAMES)
  found = []
  num_bytes = 0
  for entry, match in matches:
    with _naming(archive, entry):
      clouds, labels = hdf5.read(entry.read(), len(categories))
      num_bytes += clouds.nbytes
      if num_bytes > MAX_BYTES:
        raise ArchiveError('there are too many clouds.')
    for i, (cloud, label) in enumerate(zip(clouds, labels, strict=True)):
      read = functools.partial(normalize_points, cloud)
      name, category = f'{match[1]}/{i}', categories[label]
      found.append(Shape(name, match[2], category, entry.position, read))
  return found


def _text_sets(archive: Archive, dataset: Dataset) -> list[Shape]:
  """Lists shapes by the names CLASS/SPLIT/NAME, where NAME is CLASS_NUMBER."""
  lists = {split: f'{dataset.lists}_{split}.txt' for split in dataset.sizes}
  names = {posixpath.basename(entry.name) for entry in archive.entries}
  if names.isdisjoint(lists.values()):
    return []
  entries = {entry.name: entry for entry in archive.entries}
  found = []
  missing = []
  for split, file in lists.items():
    place = posixpath.dirname(_only(archive, file).name)
    for word in _read_words(archive, file):
      category = word.rpartition('_')[0]
      path = posixpath.join(place, category, f'{word}.txt')
      if entry := entries.get(path):
        name = f'{category}/{split}/{word}'
        read = functools.partial(_read_text, entry, name)
        found.append(Shape(name, split, category, entry.position, read))
      else:
        missing.append(path)
  if missing:
    raise ArchiveError(
      f'{archive.path} lacks files that {" or ".join(lists.values())} lists:'
      f' {listing.shown(missing)}.'
    )
  return sorted(found, key=lambda shape: shape.name)


def _read_text(entry: Entry, name: str) -> np.ndarray:
  """Draws from points in lines of x,y,z and more, such as normals."""
  data = entry.read()
  if len(data) > MAX_TEXT:
    raise ArchiveError(f'it has {len(data)} bytes; at most {MAX_TEXT}.')
  lines = [line for line in data.decode('latin-1').splitlines() if line.strip()]
  if len(lines) < NUM_POINTS:
    raise ArchiveError(f'it has {len(lines)} points, fewer than {NUM_POINTS}.')
  cloud = np.loadtxt(lines, delimiter=',', comments=None, ndmin=2)
  if cloud.shape[1] < 3:
    raise ArchiveError(f'its points have {cloud.shape[1]} coordinates, not 3.')
  return shapes.draw(cloud[:, :3], name)


def _only(archive: Archive, name: str) -> Entry:
  """Returns the one file of that name, in whatever folder."""
  found = [e for e in archive.entries if posixpath.basename(e.name) == name]
  if len(found) != 1:
    several = f'{len(found)} files {name}' if found else f'no {name}'
    raise ArchiveError(f'{archive.path} has {several}.')
  return found[0]


def _read_words(archive: Archive, name: str) -> list[str]:
  """Reads names from the one file of that name."""
  entry = _only(archive, name)
  with _naming(archive, entry):
    return entry.read().decode(errors='surrogateescape').split()


@contextlib.contextmanager
def _naming(archive: Archive, entry: Entry) -> Iterator[None]:
  """Names the entry in errors."""
  try:
    yield
  except ArchiveError as error:
    raise ArchiveError(f'{archive.path}: {entry.name}: {error}') from error
