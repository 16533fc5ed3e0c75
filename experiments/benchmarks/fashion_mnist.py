"""Fashion-MNIST: 28x28 images of clothes, 60,000 + 10,000 in 10 classes."""

from collections.abc import Sequence
import dataclasses
import gzip
import math
import pathlib
import struct
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.images import decoding, files
from experiments.benchmarks.images.task import ImageTask
from experiments.errors import DataNotFoundError
from perceiver.ranges import Range

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
  """Reads bytes in IDX format, gzipped.

  Args:
    path: of the file.
    shape: what it must hold.

  Returns:
    uint8 of that shape.

  Raises:
    ValueError: if the file is damaged or holds another shape.
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


@dataclasses.dataclass
class FashionMnist(ImageTask):
  """Clothes in grey, flipped and shifted in training."""

  max_shift: Annotated[int, Range(f'[0, {SIZE}]')]  # Pixels, along each axis.
  flip: bool
  num_classes = 10

  def class_names(self, data_dir: str | None) -> Sequence[str]:
    del data_dir
    return NAMES

  def num_examples(self, split: str) -> int:
    return NUM_EXAMPLES[split]

  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    directory = pathlib.Path(data_dir or '.')
    paths = [directory / name for name in FILES[split]]
    for path in paths:
      if not path.exists():
        raise DataNotFoundError(
          f'No {path.name} in data.dir={data_dir!r}. The four files of'
          " Fashion-MNIST come with Debian's package dataset-fashion-mnist"
          ' (in /usr/share/datasets/fashion-mnist), or from its authors.'
        )
    count = NUM_EXAMPLES[split]
    images = read_idx(paths[0], (count, SIZE, SIZE))
    labels = read_idx(paths[1], (count,))
    return _Records(images, labels)

  def read_file(self, path: str) -> Any:
    """An image of clothes, bright on dark as those of the data set.

    Its central square, in grey, becomes 28x28 pixels.
    """
    image = decoding.grey_square(files.read(path), SIZE)
    return {'image': image, 'label': 0}

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
    return {
      'image': record['image'][..., None],  # [28, 28, 1], 0 to 255
      'label': np.asarray(record['label'], np.int32),
    }

  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    return {
      'image': jax.ShapeDtypeStruct((SIZE, SIZE, 1), jnp.uint8),
      'label': jax.ShapeDtypeStruct((), jnp.int32),
    }


@dataclasses.dataclass(frozen=True)
class _Records(Sequence):
  images: np.ndarray  # [count, 28, 28] uint8
  labels: np.ndarray  # [count] uint8

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index):
    return {'image': self.images[index], 'label': self.labels[index]}
