"""ImageNet's images: records by index, in each form that people have them."""

from collections.abc import Sequence
import dataclasses
import re
from typing import Any

from experiments import storage
from experiments.benchmarks import listing
from experiments.benchmarks.imagenet import parquet, tars
from experiments.benchmarks.imagenet.checks import (
  check_classes,
  check_examples,
  COUNT_KEYS,
  WrongNumberError,
)
from experiments.benchmarks.imagenet.folders import (
  find_classes,
  FOLDERS,
  KAGGLE,
  open_folders,
  Record,
)
from experiments.errors import DataNotFoundError

TFDS_NAME = 'imagenet2012'
CONVERT = 'python -m scripts.prepare_imagenet --tfrecords=… --data_dir=…'
PREPARE = 'python -m scripts.prepare_imagenet --manual_dir=… --data_dir=…'
GENERATE = 'python -m scripts.generate_imagenet --data_dir=…'


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource(Sequence[Record]):
  """Records of TFDS's data source, which opens its files when they are read."""

  examples: Sequence[Any]

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index: Any) -> Any:
    # `range` raises a sequence's IndexError for an index out of bounds.
    example = self.examples[range(len(self))[index]]
    return Record(
      name=example['file_name'].decode(),
      jpeg=example['image'],
      label=int(example['label']),
    )


def open_source(
  data_dir: str | None,
  split: str,
  *,
  num_examples: int | None,
  num_classes: int | None,
) -> Sequence[Record]:
  """Opens the images of a split, in any form that `data_dir` may have.

  The forms are looked for in this order:
    * TFDS's imagenet2012 as array_record, `data_dir` being TFDS's own data_dir
      or the folder of a version. TFDS keeps 22 CMYK images and one PNG as RGB
      JPEGs; all other bytes are those of the original files.
    * folders, see `folders`;
    * parquet files as on Hugging Face, see `parquet`;
    * tar shards as WebDataset has them, see `tars`.
  The last three are not read on gs://, where each image would be a request. The
  images' order differs between forms: TFDS, for one, shuffles when it prepares.

  Args:
    data_dir: where to look.
    split: 'train' or 'validation'.
    num_examples: how many there must be: 1,281,167 or 50,000 in the real one.
      None: any number.
    num_classes: how many classes there must be: 1,000 in the real one. None:
      any number.

  Returns:
    Records by index. Can be pickled; files are opened when they are read.

  Raises:
    DataNotFoundError: if there is nothing to read; says how to get it.
    ValueError: if what is there is damaged, or has other numbers of examples or
      classes; then it says how to set these.
    OSError: if it cannot be read, or is in a store that cannot be used.
  """
  numbers = {'num_examples': num_examples, 'num_classes': num_classes}
  try:
    return _open(data_dir, split, **numbers)
  except WrongNumberError as error:
    raise ValueError(f'{error}{_advice(data_dir)}') from error


def count(data_dir: str | None) -> dict[str, int]:
  """Counts the classes and images that are there, by key of a config.

  Raises:
    DataNotFoundError: if there is nothing to read, or only one split.
    ValueError: if what is there cannot be used.
    OSError: if it is in a store that cannot be used.
  """
  sizes = {
    key: len(_open(data_dir, split, num_examples=None, num_classes=None))
    for split, key in COUNT_KEYS.items()
  }
  return {'task.num_classes': len(classes(data_dir, None)), **sizes}


def count_flags(data_dir: str | None) -> str:
  """Returns the flags that fit a config to the data. Raises as `count`."""
  numbers = count(data_dir).items()
  return ' '.join(f'--config.{key}={number}' for key, number in numbers)


def _advice(data_dir: str | None) -> str:
  """Returns a sentence with `count_flags`; '' if they cannot be counted."""
  try:
    flags = count_flags(data_dir)
  except (OSError, ValueError):
    return ''
  return f' If nothing is missing, the flags for what is there are: {flags}'


def _open(
  data_dir: str | None, split: str, **numbers: int | None
) -> Sequence[Record]:
  if data_dir:
    if prepared := prepared_folder(data_dir):
      return _open_tfds(prepared, split, **numbers)
    for open_form in (open_folders, parquet.open_parquet, tars.open_tars):
      source = open_form(data_dir, split, **numbers)
      if source is not None:
        return source
  raise _not_found(data_dir, split, FOLDERS[split])


def classes(data_dir: str | None, num_classes: int | None) -> Sequence[str]:
  """Returns the names that the labels of `open_source`'s records index.

  They are wnids; in parquet files the names that are kept there; without names,
  as in tar shards, they are numbers, from 0.

  Raises:
    DataNotFoundError: if there is nothing to read.
    ValueError: if there are more or fewer than `num_classes`, if given.
  """
  if data_dir:
    if prepared := prepared_folder(data_dir):
      found = tfds_builder(prepared).info.features['label'].names
      check_classes(prepared, found, num_classes)
      return found
    for find in (find_classes, parquet.find_classes, tars.find_classes):
      if names := find(data_dir, num_classes):
        return names
  raise _not_found(data_dir, 'any split', sum(FOLDERS.values(), ()))


def _not_found(
  data_dir: str | None, split: str, names: Sequence[str]
) -> DataNotFoundError:
  folders = ' or '.join(f'{name}/' for name in names)
  there = ''
  if data_dir and storage.is_local(storage.path(data_dir)):
    there = f' {listing.at(data_dir)}'
  return DataNotFoundError(
    f'No ImageNet ({split}) at data.dir={data_dir!r}. Looked for TFDS'
    f' ({TFDS_NAME}/<version>/ or dataset_info.json), for folders of images'
    f' ({folders}, also in {KAGGLE}/), for parquet files ({names[0]}-*.parquet)'
    f' and for tar shards (*{names[0]}-*.tar, both also in data/).{there}'
    f' Prepare it once from the official tars ({PREPARE}), or make a small'
    f' stand-in ({GENERATE}).'
  )


def prepared_folder(data_dir: str) -> str | None:
  """The folder of the newest version that TFDS has prepared, if any."""
  root = storage.path(data_dir)
  if (root / 'dataset_info.json').exists():
    return data_dir
  versions = [
    path.parent
    for path in root.glob(f'{TFDS_NAME}/*/dataset_info.json')
    if re.fullmatch(r'\d+\.\d+\.\d+', path.parent.name)  # Not incomplete ones.
  ]
  if not versions:
    return None
  return str(max(versions, key=lambda p: [int(x) for x in p.name.split('.')]))


def tfds_builder(folder: str) -> Any:
  """Opens a folder that TFDS prepared.

  Raises:
    DataNotFoundError: if TFDS is not installed.
    ValueError: if the folder is damaged, or another data set's.
  """
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise DataNotFoundError(
      f'{folder} is read with tensorflow-datasets, which is not installed:'
      " pip install -e '.[experiments]'"
    ) from error
  from google.protobuf import json_format

  try:
    builder = tfds.builder_from_directory(folder)
  except (ValueError, json_format.ParseError) as error:
    raise ValueError(
      f'{folder} is no data set that TFDS can read: {error}'
    ) from error
  features = builder.info.features
  if not {'image', 'label', 'file_name'} <= set(features):
    raise ValueError(
      f"{folder} has the features {', '.join(features)}; ImageNet's are image,"
      ' label and file_name.'
    )
  return builder


def _open_tfds(
  folder: str,
  split: str,
  *,
  num_examples: int | None,
  num_classes: int | None,
) -> TfdsSource:
  builder = tfds_builder(folder)
  import tensorflow_datasets as tfds

  features, splits = builder.info.features, builder.info.splits
  if tfds.core.FileFormat.ARRAY_RECORD not in (
    builder.info.available_file_formats()
  ):
    raise DataNotFoundError(
      f'{folder} was prepared as {builder.info.file_format.value}, which has'
      f' no random access. Convert TFRecord files into another folder'
      f' ({CONVERT}), or prepare it there ({PREPARE}).'
    )
  if split not in splits:
    raise DataNotFoundError(
      f'{folder} has no split {split!r}; it has: {", ".join(splits)}.'
      f' Prepare it from both tars ({PREPARE}).'
    )
  listing.check_whole(folder, list(map(str, splits[split].filepaths)))
  check_classes(folder, features['label'].names, num_classes)
  check_examples(folder, split, splits[split].num_examples, num_examples)
  decoders = {'image': tfds.decode.SkipDecoding()}
  return TfdsSource(builder.as_data_source(split, decoders=decoders))
