"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, 10 classes."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from experiments.benchmarks.images import files, pictures
from experiments.benchmarks.images.task import image_reader, ImageTask
from experiments.errors import DataNotFoundError
from perceiver.effects import Training
from perceiver.ranges import Count, FractionBelowOne, PositiveOrZero, Range

SIZE = 8
NUM_TRAIN, NUM_TEST = 1437, 360
SPLIT_SEED = 0  # Decides the split: the data set has no official one.


def read_file(path: str) -> Any:
  """Reads an image of a digit, bright on dark like those of the data set.

  Its central square, in grey, becomes 8x8 pixels from 0 to 16.
  """
  grey = pictures.grey_square(files.read(path), SIZE)
  image = np.round(grey * (16 / 255)).astype(np.float32)
  return {'index': np.int32(0), 'image': image, 'label': np.int32(0)}


@dataclasses.dataclass(kw_only=True)
class Digits(ImageTask):
  """Digits in grey, moved, turned and scaled in training."""

  max_shift: Training[PositiveOrZero]  # Pixels, along each axis.
  # Degrees.
  max_rotation: Training[Annotated[float, Range('[0, 180]')]]
  # 0.1: from 90 % to 110 % of the size.
  max_scaling: Training[FractionBelowOne]
  image_size: Count = SIZE  # Pixels along a side; images are enlarged last.
  num_classes = 10
  mean = (8.0,)
  stddev = (8.0,)
  white = 16.0
  dtype = jnp.float32
  file_reader = image_reader(read_file)

  def num_examples(self, split: str) -> int:
    return {'train': NUM_TRAIN, 'test': NUM_TEST}[split]

  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    del data_dir  # The images come with scikit-learn.
    try:
      from sklearn import datasets
    except ImportError as error:
      raise DataNotFoundError(
        'The digits come with scikit-learn, which is not installed:'
        " pip install -e '.[experiments]'"
      ) from error
    digits = datasets.load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.target))
    chosen = {'train': order[:NUM_TRAIN], 'test': order[NUM_TRAIN:]}[split]
    return [
      {
        'index': np.int32(i),
        'image': digits.images[i].astype(np.float32),  # [8, 8], 0 to 16
        'label': np.int32(digits.target[i]),
      }
      for i in chosen
    ]

  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    image = self._random_affine(record['image'], rng)
    return self.eval_example({**record, 'image': image})

  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    image = Image.fromarray(record['image'])  # [8, 8]
    shape = (self.image_size, self.image_size)
    enlarged = image.resize(shape, Image.Resampling.BILINEAR)
    return {**record, 'image': np.asarray(enlarged)[..., None]}

  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    return {
      'index': jax.ShapeDtypeStruct((), jnp.int32),
      **super().example_spec(),
    }

  def _random_affine(
    self, image: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Shifts, rotates and scales [8, 8] about its centre; outside is 0."""
    angle = math.radians(rng.uniform(-self.max_rotation, self.max_rotation))
    scale = rng.uniform(1 - self.max_scaling, 1 + self.max_scaling)
    shift = rng.uniform(-self.max_shift, self.max_shift, size=2)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    # Pillow maps output to input coordinates, pixel centres at halves.
    centre = SIZE / 2
    x, y = centre + shift
    matrix = (
      *(cos, sin, centre - cos * x - sin * y),
      *(-sin, cos, centre + sin * x - cos * y),
    )
    transformed = Image.fromarray(image).transform(
      (SIZE, SIZE),
      Image.Transform.AFFINE,
      matrix,
      resample=Image.Resampling.BILINEAR,
    )
    return np.asarray(transformed)
