"""ImageNet as folders of JPEG or PNG files, and any other images so arranged.

  train/<class>/*.JPEG
  val/<class>/*.JPEG, or val/*.JPEG with a file of labels (see `labels`)

Images may lie deeper, as in Tiny ImageNet's train/<wnid>/images/*.JPEG: all
that are below a class's folder are of that class. `validation/` may stand for
`val/`. Kaggle's archive has both in ILSVRC/Data/CLS-LOC/; `data_dir` may be its
top.
"""

from collections.abc import Iterable, Iterator, Sequence
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
from experiments.benchmarks.images import files
from experiments.benchmarks.listing import is_clutter, shown
from experiments.errors import DamagedRecordError, DataNotFoundError

FOLDERS = {'train': ('train',), 'validation': ('val', 'validation')}
KAGGLE = 'ILSVRC/Data/CLS-LOC'


class Record(TypedDict):
  """An image as it is stored."""

  name: str  # The file's, or its path below the split's folder.
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
  names: np.ndarray  # [n] bytes: paths below the folder or subfolder.
  labels: np.ndarray  # [n] int32

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: Any) -> Any:
    name, label = os.fsdecode(self.names[index]), int(self.labels[index])
    subfolder = self.subfolders[label] if self.subfolders else ''
    name = os.path.join(subfolder, name)
    try:
      jpeg = files.read(os.path.join(self.folder, name))
    except DamagedRecordError as error:  # A pipe, or a file of gigabytes.
      raise DamagedRecordError(f'{name}: {error}') from error
    return Record(name=name, jpeg=jpeg, label=label)


def open_folders(
  data_dir: str,
  split: str,
  *,
  num_examples: int | None,
  num_classes: int | None,
) -> FolderSource | None:
  """Opens a split's images, in the order of their classes, then of their paths.

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
  if split == 'train' or not set(classes).isdisjoint(_subfolders(folder)):
    source = _open_by_class(folder, classes)
  else:
    tops = dict.fromkeys((data_dir, root, folder))
    source = _open_flat(folder, tops, classes, num_examples)
  found = {classes[i] for i in np.unique(source.labels)}
  hint = ''
  if not len(source) or len(source) < (num_examples or 0):
    hint = not_counted(folder, classes if source.subfolders else None)
  if not len(source):
    hint = hint or ' There are no files in it.'
  check_examples(folder, split, len(source), num_examples, found, classes, hint)
  return source


def find_classes(data_dir: str, num_classes: int | None) -> list[str] | None:
  """Returns the sorted wnids, which the labels index; None without folders.

  Raises:
    DataNotFoundError: if no folder gives the classes.
    ValueError: if there are more or fewer than `num_classes`, if given.
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
      e.name for e in entries if e.is_dir() and not is_clutter(e.name)
    )


def _images(folder: str) -> np.ndarray:
  """[n] bytes: sorted paths, below a folder, of its images, if it exists."""
  return np.array(sorted(map(os.fsencode, _image_paths(folder))), dtype=bytes)


def _image_paths(folder: str) -> Iterator[str]:
  """Yields paths of images; follows links to files, not to folders below."""
  prefixes = [''] if os.path.isdir(folder) else []
  while prefixes:
    prefix = prefixes.pop()
    with os.scandir(os.path.join(folder, prefix)) as entries:
      for entry in entries:
        if is_clutter(entry.name):
          continue
        if entry.is_dir(follow_symlinks=False):
          prefixes.append(f'{prefix}{entry.name}/')
        elif entry.name.lower().endswith(SUFFIXES):
          yield prefix + entry.name


def _class_wnids(root: str, num_classes: int | None) -> list[str]:
  """Returns the sorted wnids: train's folders, or ImageNet's without train/."""
  train = _split_folder(root, 'train')
  if train is not None:
    validation = _split_folder(root, 'validation')
    classes = _subfolders(train)
    others = _subfolders(validation) if validation else ()
    too_few = not classes or len(classes) < (num_classes or 0)
    hint = not_counted(train, classes) if too_few else ''
    check_classes(train, classes, num_classes, others, hint)
    return classes
  if num_classes == NUM_CLASSES:
    return known_wnids()
  number = '' if num_classes is None else f'task.num_classes={num_classes} '
  raise DataNotFoundError(
    f'No {root}/train, whose folders would be the {number}classes of the'
    ' validation images.'
  )


def _check_subfolders(folder: str, classes: list[str]) -> None:
  extra = sorted(set(_subfolders(folder)) - set(classes))
  if extra:
    raise ValueError(
      f'{folder} has folders that are not classes: {shown(extra)}.'
    )


def _open_by_class(folder: str, classes: list[str]) -> FolderSource:
  _check_subfolders(folder, classes)
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
  num_examples: int | None,
) -> FolderSource:
  names = _images(folder)
  paths = [os.path.join(p, name) for p in places for name in labels.FILES]
  file = next((path for path in paths if os.path.isfile(path)), None)
  if file is not None:
    wanted = labels.read(file, classes)
  elif (num_examples or len(names)) == NUM_VALIDATION:
    file, known = "TFDS's list", known_validation_labels()
    wanted = {
      stem: labels.Label(x, i) for i, (stem, x) in enumerate(known.items(), 1)
    }
  else:
    _check_subfolders(folder, classes)
    raise DataNotFoundError(
      f'No labels for the images in {folder}: looked for {", ".join(paths)}'
      f' and for folders of the classes, such as {classes[0]}/, in it.'
    )
  stems = [labels.stem(os.fsdecode(name)) for name in names]
  missing = [stem for stem in stems if stem not in wanted]
  if missing:
    raise ValueError(
      f'{file} has no label for images in {folder}: {shown(missing)}.'
    )
  absent = sorted(set(wanted) - set(stems))
  if absent and len(names) < (num_examples or 0):
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
