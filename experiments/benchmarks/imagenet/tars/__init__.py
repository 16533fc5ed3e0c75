"""ImageNet as WebDataset's tar shards, read at random.

A sample is consecutive members of one key, which is the path up to the first
dot in its last part: `<key>.jpg` (or .jpeg, .png) and `<key>.cls`, the number
of the class as text. Other members are passed over. `index` says where the
samples are.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

import numpy as np

from experiments.benchmarks.imagenet import shards
from experiments.benchmarks.imagenet.checks import check_examples
from experiments.benchmarks.imagenet.folders import Record
from experiments.benchmarks.imagenet.tars import index
from experiments.errors import DamagedRecordError


@dataclasses.dataclass(frozen=True, eq=False)
class TarSource(Sequence[Record]):
  """Records by index, each read from its shard when asked for.

  1.28 million samples take 40 to 50 MB, in this process and in each that the
  source is sent to.
  """

  shards: tuple[str, ...]  # Their paths.
  samples: np.ndarray  # [n] of index.FIELDS

  def __len__(self) -> int:
    return len(self.samples)

  def __getitem__(self, index: Any) -> Any:
    sample = self.samples[index]
    shard, offset, size, label = (
      int(sample[field]) for field in ('shard', 'offset', 'size', 'label')
    )
    path, name = self.shards[shard], os.fsdecode(bytes(sample['name']))
    try:
      if size < 0:
        raise DamagedRecordError('there is no image with this key')
      if label < 0:
        raise DamagedRecordError('there is no .cls with a number beside it')
      if size > shards.MAX_IMAGE_BYTES:
        raise DamagedRecordError(f'the image has {size} bytes')
      with open(path, 'rb', buffering=0) as file:
        jpeg = shards.read_at(file.fileno(), offset, size)
    except DamagedRecordError as error:
      raise DamagedRecordError(f'{path}, {name}: {error}') from error
    return Record(name=name, jpeg=jpeg, label=label)


def open_tars(
  data_dir: str,
  split: str,
  *,
  num_examples: int | None,
  num_classes: int | None,
) -> TarSource | None:
  """Opens a split's samples, in the order of the shards and their members.

  Returns None if there are no shards. The arguments are as for
  `source.open_source`.

  Raises:
    DataNotFoundError: if some shards are missing.
    ValueError: if there are more or fewer images, labels of other classes, or
      damaged or compressed shards.
    OSError: if the shards cannot be read or the index cannot be written.
  """
  for suffix in ('.tar.gz', '.tgz'):
    if packed := shards.find(data_dir, split, suffix):
      raise ValueError(
        f'{packed[0]} and {len(packed) - 1} more shards are compressed, so'
        ' images cannot be read at random. Unpack each into a .tar: gunzip'
        f' {os.path.dirname(packed[0])}/*{suffix}'
      )
  paths = shards.find(data_dir, split, '.tar')
  if not paths:
    return None
  source = TarSource(tuple(paths), index.samples(split, paths))
  folder = os.path.dirname(paths[0])
  check_examples(folder, split, len(source), num_examples)
  labels = source.samples['label']
  is_labelled = labels >= 0
  if not is_labelled.any():
    raise ValueError(
      f'No sample in {paths[0]} and {len(paths) - 1} more shards has a .cls'
      ' with the number of a class, from 0.'
    )
  labelled = source.samples[is_labelled]
  shards.check_labels(
    split, labelled['label'], num_classes, lambda i: paths[labelled['shard'][i]]
  )
  return source


def find_classes(data_dir: str, num_classes: int | None) -> list[str] | None:
  """Returns the classes' numbers, since shards have no names; None without.

  If `num_classes` is None, the training labels tell how many there are.
  """
  if not any(shards.find(data_dir, split, '.tar') for split in shards.SPLITS):
    return None
  if num_classes is None:
    train = open_tars(data_dir, 'train', num_examples=None, num_classes=None)
    num_classes = int(train.samples['label'].max()) + 1 if train else 0
  return list(map(str, range(num_classes)))
