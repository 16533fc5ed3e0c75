"""Reads point sets in HDF5, as PointNet's authors publish ModelNet40."""

import io
from typing import Any

import numpy as np

from experiments import errors
from experiments.benchmarks.modelnet40.archives.entries import (
  ArchiveError,
  MAX_BYTES,
)
from experiments.benchmarks.modelnet40.source import NUM_POINTS


def read(data: bytes, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads one file.

  Args:
    data: the content of the file, with 'data' in floats and 'label' in
      integers, both of any size.
    num_classes: labels are below it.

  Returns:
    Clouds [n, M, 3] float32 and labels [n] int64.

  Raises:
    ArchiveError: if it is not such a file, or too large.
  """
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
      kinds = clouds.dtype.kind + labels.dtype.kind
      size = clouds.dtype.itemsize * clouds.size
      if kinds not in ('fi', 'fu') or size > MAX_BYTES:
        raise ArchiveError(
          f'it has {n} clouds in {clouds.dtype} with labels in {labels.dtype};'
          f' expected floats of at most {MAX_BYTES} bytes, and integers.'
        )
      numbers = np.asarray(labels).reshape(n)
      if n and not 0 <= numbers.min() <= numbers.max() < num_classes:
        raise ArchiveError(
          f'it has labels from {numbers.min()} to {numbers.max()}; there are'
          f' {num_classes} classes.'
        )
      with np.errstate(over='ignore'):  # `normalize_points` checks.
        return np.asarray(clouds, np.float32), numbers.astype(np.int64)
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
