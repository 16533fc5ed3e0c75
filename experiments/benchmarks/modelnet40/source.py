"""ModelNet40, and data sets like it: which there are, and where.

`layouts` finds the shapes in a source archive or folder, and `preparation`
writes the array_record files.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from experiments import storage
from experiments.benchmarks.modelnet40 import standin
from experiments.errors import DataNotFoundError

NUM_POINTS = 2048  # Points of each cloud, M.
BUILDER = 'point_clouds'
VERSION = '1.0.0'


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set: its archive, classes and sizes."""

  form: str  # The archive's layout: 'off', 'hdf5' or 'txt', see `layouts`.
  archive: str  # File name, as published.
  categories: tuple[str, ...]  # In the order of the labels.
  sizes: Mapping[str, int]  # Shapes by split.
  lists: str = ''  # In 'txt': LISTS_train.txt and LISTS_test.txt name them.


CATEGORIES = (
  *('airplane', 'bathtub', 'bed', 'bench', 'bookshelf', 'bottle', 'bowl'),
  *('car', 'chair', 'cone', 'cup', 'curtain', 'desk', 'door', 'dresser'),
  *('flower_pot', 'glass_box', 'guitar', 'keyboard', 'lamp', 'laptop'),
  *('mantel', 'monitor', 'night_stand', 'person', 'piano', 'plant', 'radio'),
  *('range_hood', 'sink', 'sofa', 'stairs', 'stool', 'table', 'tent'),
  *('toilet', 'tv_stand', 'vase', 'wardrobe', 'xbox'),
)
CATEGORIES_10 = (
  *('bathtub', 'bed', 'chair', 'desk', 'dresser', 'monitor', 'night_stand'),
  *('sofa', 'table', 'toilet'),
)
SIZES = {'train': 9843, 'test': 2468}
SIZES_10 = {'train': 3991, 'test': 908}
RESAMPLED = 'modelnet40_normal_resampled.zip'
DATASETS = {
  'modelnet40': Dataset('off', 'ModelNet40.zip', CATEGORIES, SIZES),
  'modelnet10': Dataset('off', 'ModelNet10.zip', CATEGORIES_10, SIZES_10),
  # PointNet's authors published it without three training shapes.
  'modelnet40_hdf5': Dataset(
    'hdf5',
    'modelnet40_ply_hdf5_2048.zip',
    CATEGORIES,
    {'train': 9840, 'test': 2468},
  ),
  # PointNet++'s authors published 10,000 points of each shape.
  'modelnet40_normal_resampled': Dataset(
    'txt', RESAMPLED, CATEGORIES, SIZES, 'modelnet40'
  ),
  'modelnet10_normal_resampled': Dataset(
    'txt', RESAMPLED, CATEGORIES_10, SIZES_10, 'modelnet10'
  ),
  'solids': Dataset('off', 'solids.zip', standin.CATEGORIES, standin.SIZES),
}


def get(name: str) -> Dataset:
  """The data set of that name. Raises ValueError if there is none."""
  if name not in DATASETS:
    raise ValueError(f'No data set {name!r}; there are {sorted(DATASETS)}.')
  return DATASETS[name]


def directory(name: str, data_dir: str) -> str:
  """Returns the directory in which a data set is prepared."""
  return os.path.join(data_dir, BUILDER, name, VERSION)


def open_source(name: str, split: str, data_dir: str | None) -> Sequence[Any]:
  """Opens a prepared split, 'train' or 'test', on a disk or on gs://.

  Returns records by index, with 'points' [M, 3] float32, 'label' and 'name'.

  Raises:
    DataNotFoundError: if the data set is not prepared there.
    OSError: if it is in a store that cannot be used.
  """
  path = directory(name, data_dir or 'DIRECTORY')
  if not (data_dir and storage.path(path).is_dir()):
    raise DataNotFoundError(
      f'No data set {name!r} at {path} (data.dir={data_dir!r}). Prepare it:'
      f' python -m scripts.prepare_modelnet40 --dataset={name}'
      f' --source={get(name).archive} --data_dir={data_dir or "DIRECTORY"}'
    )
  import tensorflow_datasets as tfds

  return tfds.builder_from_directory(path).as_data_source(split=split)
