"""Fashion-MNIST: 28x28 images of clothes, 60,000 + 10,000 in 10 classes."""

from collections.abc import Sequence
import dataclasses
import gzip
import math
import pathlib
import struct
from typing import Annotated, Any

import numpy as np

from experiments.benchmarks import listing, splits
from experiments.benchmarks.images import files, pictures
from experiments.benchmarks.images.task import image_reader, ImageTask
from experiments.errors import DataNotFoundError
from perceiver.effects import Training
from perceiver.ranges import Count, FractionBelowOne, Range

SIZE = 28
NAMES = (
  *('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat'),
  *('Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'),
)
NUM_EXAMPLES = {'train': 60_000, 'test': 10_000}
FILES = {
  'train': ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'),
  'test': ('t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'),
}


def read_idx(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
  """Reads uint8 of that shape from a gzipped file in IDX format.

  Raises ValueError if the file is damaged or holds another shape.
  """
  try:
    with gzip.open(path) as f:
      data = f.read()
  except (OSError, EOFError, ValueError) as error:
    raise ValueError(f'{path} is damaged: {error}. Get it again.') from error
  # Two zeros, 8 for bytes, the number of dimensions, then their sizes.
  header = struct.pack(f'>HBB{len(shape)}I', 0, 8, len(shape), *shape)
  if data[: len(header)] != header or len(data) != len(header) + math.prod(
    shape
  ):
    raise ValueError(f'{path} does not hold bytes of shape {shape}.')
  return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def read_file(path: str) -> Any:
  """Reads an image of clothes, bright on dark like those of the data set.

  Its central square, in grey, becomes 28x28 pixels.
  """
  image = pictures.grey_square(files.read(path), SIZE)
  return {'image': image, 'label': 0}


@dataclasses.dataclass(kw_only=True)
class FashionMnist(ImageTask):
  """Clothes in grey, flipped and shifted in training."""

  # In the file's pixels, along each axis.
  max_shift: Training[Annotated[int, Range(f'[0, {SIZE}]')]]
  flip: Training[bool]
  # Pixels along a side; each is the mean of a square of the file's pixels.
  image_size: Annotated[int, Range(f'[1, {SIZE}]')] = SIZE
  # Of the training split; the held-out part picks the best checkpoint.
  validation_fraction: Training[FractionBelowOne] = 0.0
  # Of the training split; this part is added to the test split.
  test_fraction: Training[FractionBelowOne] = 0.0
  # Trains on so many of the others alone, always the same; None: on all.
  num_train: Training[Count | None] = None
  num_classes = 10
  file_reader = image_reader(read_file)

  def __post_init__(self) -> None:
    if SIZE % self.image_size:
      raise ValueError(
        f'task.image_size={self.image_size} does not divide the {SIZE} pixels'
        ' of the files.'
      )
    super().__post_init__()
    if self.validation_fraction:
      self.eval_splits = ('validation', 'test')
    left = len(self._part(range(NUM_EXAMPLES['train']), 'train'))
    if left < max(1, self.num_train or 0):
      raise ValueError(
        f'task.num_train={self.num_train}: task.validation_fraction='
        f'{self.validation_fraction} and task.test_fraction='
        f'{self.test_fraction} leave {left} images.'
      )

  def _part(self, records: Sequence[Any], split: str) -> splits.Subset:
    """Returns the published training images that a split has."""
    fractions = self.validation_fraction, self.test_fraction
    return splits.subset(records, split, *fractions)

  def class_names(self, data_dir: str | None) -> Sequence[str]:
    del data_dir
    return NAMES

  def num_examples(self, split: str) -> int:
    count = len(self._part(range(NUM_EXAMPLES['train']), split))
    if split == 'train':
      return self.num_train or count
    return NUM_EXAMPLES['test'] + count if split == 'test' else count

  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    if split == 'test' and not self.test_fraction:
      return _read('test', data_dir)
    published = _read('train', data_dir)
    count = self.num_examples(split)
    if count == len(published):
      return published  # In the file's order.
    part = self._part(published, split)
    if split == 'test':
      return _read('test', data_dir).joined(published, part.indices)
    return splits.Subset(published, part.indices[:count])

  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    image = record['image']
    if self.flip and rng.random() < 0.5:
      image = image[:, ::-1]
    padded = np.pad(image, self.max_shift)
    y, x = rng.integers(2 * self.max_shift + 1, size=2)
    image = padded[y : y + SIZE, x : x + SIZE]
    return self.eval_example({**record, 'image': image})

  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    size, side = self.image_size, SIZE // self.image_size
    squares = record['image'].reshape(size, side, size, side)
    image = np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)
    return {
      'image': image[..., None],  # 0 to 255
      'label': np.asarray(record['label'], np.int32),
    }


@dataclasses.dataclass(frozen=True)
class _Records(Sequence):
  images: np.ndarray  # [count, 28, 28] uint8
  labels: np.ndarray  # [count] uint8

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index):
    return {'image': self.images[index], 'label': self.labels[index]}

  def joined(self, other: '_Records', indices: np.ndarray) -> '_Records':
    """Returns these records, then some of the other's."""
    return _Records(
      np.concatenate([self.images, other.images[indices]]),
      np.concatenate([self.labels, other.labels[indices]]),
    )


def _read(published: str, data_dir: str | None) -> _Records:
  """Reads a published split. Raises what `FashionMnist.source` does."""
  paths = [pathlib.Path(data_dir or '', name) for name in FILES[published]]
  for path in paths:
    if not (data_dir and path.is_file()):
      there = f' {listing.at(data_dir)}' if data_dir else ''
      raise DataNotFoundError(
        f'No {path.name} in data.dir={data_dir!r}.{there} The four files of'
        " Fashion-MNIST come with Debian's package dataset-fashion-mnist"
        ' (in /usr/share/datasets/fashion-mnist), or from its authors.'
      )
  count = NUM_EXAMPLES[published]
  images = read_idx(paths[0], (count, SIZE, SIZE))
  labels = read_idx(paths[1], (count,))
  return _Records(images, labels)
