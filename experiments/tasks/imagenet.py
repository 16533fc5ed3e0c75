"""ImageNet, 1,281,167 images in 1,000 classes (section 4.1)."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tasks.base import Batch, DataNotFoundError, Task
import perceiver


@dataclasses.dataclass
class ImageNet(Task):
  """RGB images; Fourier features for both axes.

  This version has the model's side of the benchmark: parameter counts, FLOPs
  and benchmarks on random input. It cannot read the images yet.
  """

  image_size: int
  num_bands: int
  max_resolution: int
  num_classes = 1000
  eval_split = 'validation'

  def num_examples(self, split: str) -> int:
    return {'train': 1_281_167, 'validation': 50_000}[split]

  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    raise DataNotFoundError(
      f'No ImageNet ({split}) at data.dir={data_dir!r}: this version has no'
      ' reader for its images yet. It counts and benchmarks this model'
      ' (python -m scripts.tables --table=6); to train, use'
      ' --config=configs/digits.py, whose data needs no preparation.'
    )

  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    del rng
    return self.eval_example(record)

  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    return record

  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    shape = (self.image_size, self.image_size, 3)
    return {
      'image': jax.ShapeDtypeStruct(shape, jnp.float32),
      'label': jax.ShapeDtypeStruct((), jnp.int32),
    }

  def byte_array(self, batch: Batch, is_training: bool) -> perceiver.ByteArray:
    del is_training
    positions = perceiver.fourier_axes(
      batch['image'].shape[1:3], self.num_bands, self.max_resolution
    )
    segment = perceiver.Segment(batch['image'], positions)
    return perceiver.ByteArray((segment,))
