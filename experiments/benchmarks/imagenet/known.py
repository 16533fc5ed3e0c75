"""ImageNet's classes, their names and labels, known without its images."""

import importlib.util
import pathlib

from experiments.errors import DataNotFoundError
from perceiver.importers import released

NUM_CLASSES, NUM_VALIDATION = 1000, 50_000


def known_wnids() -> list[str]:
  """The 1,000 wnids of ImageNet, sorted."""
  return _tfds_list('labels.txt')


def known_names() -> dict[str, str]:
  """Names of the 1,000 classes by wnid, in the order of the labels."""
  return released.class_names()


def known_validation_labels() -> dict[str, str]:
  """The wnid of each of the 50,000 validation images, by name without .JPEG.

  TFDS's list is in the order of the names.
  """
  wnids = _tfds_list('validation_labels.txt')
  return {f'ILSVRC2012_val_{i:08d}': wnid for i, wnid in enumerate(wnids, 1)}


def _tfds_list(name: str) -> list[str]:
  spec = importlib.util.find_spec('tensorflow_datasets')
  if spec is None or spec.origin is None:
    raise DataNotFoundError(
      "ImageNet's list of classes comes with tensorflow-datasets, which is"
      " not installed: pip install -e '.[experiments]'"
    )
  folder = pathlib.Path(spec.origin).parent / 'datasets' / 'imagenet2012'
  return (folder / name).read_text().split()
