"""Reads the shapes in archives of ModelNet40: meshes, or point sets in HDF5."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import hashlib
import io
import os
import posixpath
import re
from typing import Any
import zipfile

import numpy as np

from experiments import errors
from experiments.benchmarks import listing
from experiments.benchmarks.modelnet40 import archives, off
from experiments.benchmarks.modelnet40.archives import ArchiveError
from experiments.benchmarks.modelnet40.source import NUM_POINTS
from perceiver.modalities import normalize_points

SAMPLING_SEED = 0
# Any folder may be on top. What macOS packs beside the files does not match.
MESH = re.compile(r'(?:.*/)?([^/]+)/(train|test)/([^/.][^/]*)\.(?i:off)')
HDF5 = re.compile(r'(?:.*/)?(ply_data_(train|test)\d+)\.(?i:h5)')
NAMES = 'shape_names.txt'


@dataclasses.dataclass(frozen=True)
class Shape:
  """A shape of an archive, which may not be read yet."""

  name: str  # Unique in the data set.
  split: str
  category: str
  read: Callable[[], np.ndarray]  # [M, 3] float32, normalized; or ValueError.


def read_archive(archive: zipfile.ZipFile, form: str) -> list[Shape]:
  """Lists all shapes of an archive, in the order of their names.

  The form is 'off' or 'hdf5'. Point sets are read at once, meshes by
  `Shape.read`, for which the archive must stay open.

  Raises:
    ArchiveError: if the archive has no shape of that form; for point sets also
      if a file is damaged, because thousands of them would be missing.
  """
  entries = [
    entry
    for entry in sorted(archive.infolist(), key=lambda e: e.filename)
    if not entry.filename.startswith('__MACOSX/')
  ]
  list_shapes, looked_for = {
    'off': (_meshes, 'meshes (CLASS/train/NAME.off)'),
    'hdf5': (_point_sets, 'point sets (ply_data_train0.h5)'),
  }[form]
  shapes = list_shapes(archive, entries)
  if not shapes:
    names = [entry.filename for entry in entries]
    raise ArchiveError(
      f'{archive.filename} has no {looked_for}; it has'
      f' {listing.summary(names)}'
      + (f', the first one {names[0][:80]!r}.' if names else '.')
    )
  return shapes


def _meshes(
  archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]
) -> list[Shape]:
  shapes = []
  for entry in entries:
    if match := MESH.fullmatch(entry.filename):
      category, split, name = match.groups()
      name = f'{category}/{split}/{name}'
      read = functools.partial(_read_mesh, archive, entry, name)
      shapes.append(Shape(name, split, category, read))
  return shapes


def _read_mesh(
  archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str
) -> np.ndarray:
  return sample(off.parse(archives.read_entry(archive, entry)), name)


def sample(mesh: off.Mesh, name: str) -> np.ndarray:
  """Draws normalized points, [M, 3] float32, on the surface of a mesh.

  The draws follow from its name. Raises ValueError if the mesh has no surface,
  or no finite one.
  """
  sampled = off.sample_surface(*mesh, NUM_POINTS, generator(name))
  # Before float32, whose digits a mesh far from the origin would use up.
  return normalize_points(sampled).astype(np.float32)


def name_of(path: str) -> str:
  """Returns a shape's name: CLASS/SPLIT/NAME, or NAME elsewhere."""
  path = os.path.abspath(path)
  if match := MESH.fullmatch(path):
    return '/'.join(match.groups())
  return os.path.splitext(os.path.basename(path))[0]


def generator(name: str) -> np.random.Generator:
  """Returns the generator that draws points on the shape of that name.

  It follows from the name alone, so the order of the shapes and damaged ones do
  not matter.
  """
  # Names of files need not be in UTF-8.
  text = f'{SAMPLING_SEED}/{name}'.encode(errors='surrogateescape')
  digest = hashlib.sha256(text).digest()
  return np.random.default_rng(int.from_bytes(digest[:8], 'big'))


def _point_sets(
  archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]
) -> list[Shape]:
  files = [(e, m) for e in entries if (m := HDF5.fullmatch(e.filename))]
  if not files:
    return []
  names = [e for e in entries if posixpath.basename(e.filename) == NAMES]
  if not names:
    raise ArchiveError(f'{archive.filename} has no {NAMES}.')
  listed = archives.read_entry(archive, names[0])
  categories = listed.decode('latin-1').split()
  shapes = []
  for entry, match in files:
    try:
      clouds, labels = _read_hdf5(archives.read_entry(archive, entry))
      if labels.max(initial=0) >= len(categories):
        raise ArchiveError(
          f'it has label {labels.max()}; there are {len(categories)} classes.'
        )
    except ArchiveError as error:
      raise ArchiveError(
        f'{archive.filename}: {entry.filename}: {error}'
      ) from error
    for i, (cloud, label) in enumerate(zip(clouds, labels, strict=True)):
      read = functools.partial(normalize_points, cloud)
      name = f'{match[1]}/{i}'
      shapes.append(Shape(name, match[2], categories[label], read))
  return shapes


def _read_hdf5(data: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Reads clouds [n, M, 3] float32 and labels [n] from one file."""
  import h5py

  try:
    with h5py.File(io.BytesIO(data), 'r') as file:
      clouds, labels = (_dataset(h5py, file, key) for key in ('data', 'label'))
      n = clouds.shape[0]
      if clouds.shape[1:] != (NUM_POINTS, 3) or labels.size != n:
        raise ArchiveError(
          f'it has data {clouds.shape} and label {labels.shape}, instead of'
          f' (n, {NUM_POINTS}, 3) and (n, 1).'
        )
      if 4 * clouds.size > archives.MAX_BYTES or labels.dtype != np.uint8:
        raise ArchiveError(f'{n} clouds with labels in {labels.dtype}.')
      return np.asarray(clouds, np.float32), np.asarray(labels).reshape(n)
  except ArchiveError:
    raise
  except Exception as error:  # h5py raises whatever HDF5 stumbles on.
    if errors.is_fault(error):
      raise
    raise ArchiveError(f'it is not a whole HDF5 file: {error}') from error


def _dataset(h5py: Any, file: Any, key: str) -> Any:
  """Returns an array of this very file, not of another that it names."""
  dataset = file[key]
  link = file.get(key, getlink=True)
  if (
    not isinstance(link, h5py.HardLink)
    or not isinstance(dataset, h5py.Dataset)
    or dataset.external
    or dataset.is_virtual
  ):
    raise ArchiveError(f'{key!r} is not an array in the file itself.')
  return dataset
