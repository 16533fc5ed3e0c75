"""ImageNet as folders of JPEG files: as its tars unpack, or as on Kaggle.

  train/<wnid>/*.JPEG
  val/<wnid>/*.JPEG, or val/*.JPEG with a file of labels (see `labels`)

`validation/` may stand for `val/`. Kaggle's archive has both in
ILSVRC/Data/CLS-LOC/; `data_dir` may be its top.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import os
from typing import Any, NotRequired, TypedDict

import numpy as np

from experiments import storage
from experiments.benchmarks.imagenet import labels
from experiments.benchmarks.imagenet.checks import (
  check_classes,
  check_examples,
  not_counted,
  SUFFIXES,
)
from experiments.benchmarks.imagenet.known import (
  known_validation_labels,
  known_wnids,
  NUM_CLASSES,
  NUM_VALIDATION,
)
from experiments.benchmarks.listing import shown
from experiments.errors import DataNotFoundError

FOLDERS = {'train': ('train',), 'validation': ('val', 'validation')}
KAGGLE = 'ILSVRC/Data/CLS-LOC'


class Record(TypedDict):
  """An image as it is stored."""

  name: str  # The file's, without folders.
  jpeg: bytes  # A few files of the real ImageNet are not JPEG.
  label: int  # Index of the image's wnid among the sorted wnids.
  is_own: NotRequired[bool]  # A person's file, not one of the data set.


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource(Sequence[Record]):
  """Records by index, read from one file each when asked for.

  Names are kept in an array: 1.28 million take 36 MB, in this process and in
  each that the source is sent to.
  """

  folder: str
  subfolders: tuple[str, ...]  # By label; empty if all files are together.
  names: np.ndarray  # [n] bytes
  labels: np.ndarray  # [n] int32

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: Any) -> Any:
    name, label = os.fsdecode(self.names[index]), int(self.labels[index])
    subfolder = self.subfolders[label] if self.subfolders else ''
    path = os.path.join(self.folder, subfolder, name)
    with open(path, 'rb') as file:
      return Record(name=name, jpeg=file.read(), label=label)


def open_folders(
  data_dir: str, split: str, *, num_examples: int, num_classes: int
) -> FolderSource | None:
  """Opens a split's images, in the order of their classes, then of their names.

  Returns None if there is no folder for the split. The arguments are as for
  `source.open_source`.

  Raises:
    DataNotFoundError: if nothing gives the classes or the labels.
    ValueError: if there are more or fewer images or classes, or bad labels.
  """
  places = _places(data_dir, split)
  if places is None:
    return None
  root, folder = places
  classes = _class_wnids(root, num_classes)
  if split == 'train' or _subfolders(folder):
    source = _open_by_class(folder, classes)
  else:
    tops = dict.fromkeys((data_dir, root, folder))
    source = _open_flat(folder, tops, classes, num_examples)
  found = {classes[i] for i in np.unique(source.labels)}
  hint = ''
  if len(source) < num_examples:
    hint = not_counted(folder, classes if source.subfolders else None)
  if not len(source):
    hint = hint or ' There are no files in it.'
  check_examples(folder, split, len(source), num_examples, found, classes, hint)
  return source


def find_classes(data_dir: str, num_classes: int) -> list[str] | None:
  """Returns the sorted wnids, which the labels index; None without folders.

  Raises:
    DataNotFoundError: if no folder gives the classes.
    ValueError: if there are more or fewer than `num_classes`.
  """
  for split in FOLDERS:
    if places := _places(data_dir, split):
      return _class_wnids(places[0], num_classes)
  return None


def _places(data_dir: str, split: str) -> tuple[str, str] | None:
  """Returns the folder above the split's, and the split's, if there are any.

  The first is `data_dir` or, in Kaggle's archive, a folder in it. There are
  none on gs://, where each image would be a request.
  """
  if storage.is_local(storage.path(data_dir)):
    for root in (data_dir, os.path.join(data_dir, KAGGLE)):
      if folder := _split_folder(root, split):
        return root, folder
  return None


def _split_folder(root: str, split: str) -> str | None:
  folders = (os.path.join(root, name) for name in FOLDERS[split])
  return next((f for f in folders if os.path.isdir(f)), None)


def _subfolders(folder: str) -> list[str]:
  with os.scandir(folder) as entries:
    return sorted(
      e.name for e in entries if e.is_dir() and not e.name.startswith('.')
    )


def _images(folder: str) -> np.ndarray:
  """[n] bytes: the sorted names of the images in a folder, if it exists."""
  names = (
    name
    for name in (os.listdir(folder) if os.path.isdir(folder) else ())
    if name.lower().endswith(SUFFIXES)
    and not name.startswith('.')  # Some systems put such files beside others.
  )
  return np.array(sorted(map(os.fsencode, names)), dtype=bytes)


def _class_wnids(root: str, num_classes: int) -> list[str]:
  """Returns the sorted wnids: train's folders, or ImageNet's without train/."""
  train = _split_folder(root, 'train')
  if train is not None:
    validation = _split_folder(root, 'validation')
    classes = _subfolders(train)
    others = _subfolders(validation) if validation else ()
    hint = not_counted(train, classes) if len(classes) < num_classes else ''
    check_classes(train, classes, num_classes, others, hint)
    return classes
  if num_classes == NUM_CLASSES:
    return known_wnids()
  raise DataNotFoundError(
    f'No {root}/train, whose folders would be the'
    f' task.num_classes={num_classes} classes of the validation images.'
  )


def _open_by_class(folder: str, classes: list[str]) -> FolderSource:
  extra = sorted(set(_subfolders(folder)) - set(classes))
  if extra:
    raise ValueError(
      f'{folder} has folders that are not classes: {shown(extra)}.'
    )
  paths = [os.path.join(folder, wnid) for wnid in classes]
  names = [_images(path) for path in paths]
  indices = np.repeat(
    np.arange(len(classes), dtype=np.int32), [len(n) for n in names]
  )
  return FolderSource(folder, tuple(classes), np.concatenate(names), indices)


def _open_flat(
  folder: str,
  places: Iterable[str],
  classes: list[str],
  num_examples: int,
) -> FolderSource:
  files = [os.path.join(p, name) for p in places for name in labels.FILES]
  file = next((f for f in files if os.path.isfile(f)), None)
  if file is not None:
    wanted = labels.read(file, classes)
  elif num_examples == NUM_VALIDATION:
    file, known = "TFDS's list", known_validation_labels()
    wanted = {
      stem: labels.Label(x, i) for i, (stem, x) in enumerate(known.items(), 1)
    }
  else:
    raise DataNotFoundError(
      f'No labels for the images in {folder}: looked for {", ".join(files)}'
      ' and for folders <wnid>/ in it.'
    )
  names = _images(folder)
  stems = [os.path.splitext(os.fsdecode(name))[0] for name in names]
  missing = [stem for stem in stems if stem not in wanted]
  if missing:
    raise ValueError(
      f'{file} has no label for images in {folder}: {shown(missing)}.'
    )
  if len(names) < num_examples and (absent := sorted(set(wanted) - set(stems))):
    hint = (
      f' {file} also has labels of images that are missing: {shown(absent)}.'
    )
    hint += not_counted(folder, None)
    check_examples(folder, 'validation', len(names), num_examples, hint=hint)
  given = {stem: wanted[stem] for stem in stems}
  numbers = labels.indices(file, given, classes)
  by_stem = dict(zip(given, numbers, strict=True))
  found = np.array([by_stem[stem] for stem in stems], np.int32)
  return FolderSource(folder, (), names, found)
