"""Finds a split's shards by their names, and reads parts of files."""

import collections
from collections.abc import Callable
import os
import re

import numpy as np

from experiments import storage
from experiments.benchmarks.imagenet.checks import WrongNumberError
from experiments.benchmarks.listing import shown
from experiments.errors import DamagedRecordError, DataNotFoundError

FOLDERS = ('', 'data')  # In data_dir.
SPLITS = {'train': 'train', 'validation': 'validation|valid|val'}
# Larger images are damage: ImageNet's largest has 15 MB.
MAX_IMAGE_BYTES = 128 * 1024**2


def find(data_dir: str, split: str, suffix: str) -> list[str]:
  """Returns the paths of a split's shards, in the order of their numbers.

  A name has the split, the shard's number and, in some sets, how many shards
  there are: 'train-00000-of-00294.parquet', 'imagenet1k-validation-00.tar'.
  Hugging Face may add a hexadecimal sum before the suffix.

  Args:
    data_dir: the folder that has them, or has them in `data/`.
    split: 'train' or 'validation'; in names also 'val' or 'valid'.
    suffix: what the names end in, such as '.parquet'.

  Returns:
    The paths; none if there are no such shards, or `data_dir` is in a store.

  Raises:
    DataNotFoundError: if some shards of the set are missing.
    ValueError: if there are several sets.
  """
  if not storage.is_local(storage.path(data_dir)):
    return []
  pattern = re.compile(
    rf'(|.*[-_.])({SPLITS[split]})-(\d+)(?:-of-(\d+))?(?:-[0-9a-f]{{16}})?'
    + re.escape(suffix)
  )
  for folder in (os.path.join(data_dir, name) for name in FOLDERS):
    sets = collections.defaultdict(list)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
      if not name.startswith('.') and (match := pattern.fullmatch(name)):
        prefix, names, number, count = match.groups()
        sets[prefix, names, count].append((int(number), name))
    if sets:
      return [os.path.join(folder, name) for name in _only_set(folder, sets)]
  return []


def _only_set(
  folder: str, sets: dict[tuple[str, str, str | None], list[tuple[int, str]]]
) -> list[str]:
  first, *others = sorted(min(numbered)[1] for numbered in sets.values())
  if others:
    raise ValueError(
      f'{folder} has several sets of shards for one split; one begins with'
      f' {first}, another with {others[0]}. Keep one of them.'
    )
  ((_, _, count), numbered) = sets.popitem()
  numbered.sort()
  numbers = [number for number, _ in numbered]
  twice = [n for n, more in collections.Counter(numbers).items() if more > 1]
  if twice:
    names = [name for number, name in numbered if number == twice[0]]
    raise ValueError(
      f'{folder} has shard {twice[0]} twice: {shown(names)}. Keep one of them.'
    )
  wanted = int(count) if count else numbers[-1] + 1
  if numbers != list(range(wanted)):
    # The wanted numbers may be billions in a wrong name.
    missing = next(i for i, n in enumerate([*numbers, -1]) if i != n)
    raise DataNotFoundError(
      f'{folder} has {len(numbers)} of {wanted} shards like {first}; the first'
      f' one that is missing is number {missing}. Download the missing ones.'
    )
  return [name for _, name in numbered]


def check_labels(
  split: str,
  labels: np.ndarray,
  num_classes: int | None,
  path: Callable[[int], str],
) -> None:
  """Raises ValueError unless labels are those of `num_classes` classes.

  Args:
    split: 'train' must have the last class, too.
    labels: [n] integers.
    num_classes: how many classes there must be; None: any number.
    path: returns the path of the shard that has an image, given by its index.
  """
  most = int(labels.max(initial=-1)) + 1
  num_classes = most if num_classes is None else num_classes
  is_odd = (labels < 0) | (labels >= num_classes)
  if is_odd.any():
    first = int(np.argmax(is_odd))
    raise WrongNumberError(
      f'{path(first)} has the label {labels[first]}, but'
      f' task.num_classes={num_classes} allows 0 to {num_classes - 1}.'
    )
  if split == 'train' and most < num_classes:
    raise WrongNumberError(
      f'{os.path.dirname(path(0))} has {most} classes, but'
      f' task.num_classes={num_classes}: the largest label is {most - 1}.'
    )


def read_at(file: int, offset: int, size: int) -> bytes:
  """Reads a part of a file, given by its descriptor.

  Raises:
    DamagedRecordError: if the file ends before the part does.
  """
  data = b''
  while len(data) < size:  # Networks' file systems may return less.
    more = os.pread(file, size - len(data), offset + len(data))
    if not more:
      raise DamagedRecordError(f'the file ends at byte {offset + len(data)}')
    data += more
  return data
