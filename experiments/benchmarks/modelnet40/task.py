"""ModelNet40: point clouds in 40 classes (section 4.3, Table 4)."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import splits
from experiments.benchmarks.modelnet40 import files, points
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.display import Display, View
from experiments.task import Batch, FileReader, one_by_one, Task
from perceiver.effects import Training
from perceiver.modalities import Modality, normalize_points, Points
from perceiver.ranges import (
  Count,
  FractionBelowOne,
  Positive,
  PositiveOrZero,
  Range,
)


@dataclasses.dataclass
class ModelNet40(Task):
  """Point clouds, with Fourier features of their coordinates alone."""

  dataset: str  # See `source.DATASETS`.
  num_bands: Count
  max_resolution: Positive  # The unit cube's side, in elements.
  # 0.01: all coordinates times 0.99 to 1.01.
  max_scaling: Training[FractionBelowOne]
  # Of each point, in half-sides of the unit cube.
  max_translation: Training[PositiveOrZero]
  # Degrees, about the vertical axis: 2 in the meshes, 1 in the HDF5 files.
  max_rotation: Training[Annotated[float, Range('[0, 180]')]]
  vertical_axis: Training[Annotated[int, Range('[0, 2]')]]
  # (height, width) of a grid that the points stand on, in a random order;
  # surplus points are left out. None: they are a set.
  grid: tuple[Count, Count] | None
  # Of the training split; the held-out part picks the best checkpoint.
  validation_fraction: Training[FractionBelowOne]
  file_reader = FileReader(
    ('.npy', '.obj', '.off', '.ply', '.stl'), one_by_one(files.read)
  )

  def __post_init__(self) -> None:
    self.categories = modelnet40.get(self.dataset).categories
    self.num_classes = len(self.categories)
    if self.num_points > modelnet40.NUM_POINTS:
      raise ValueError(
        f'task.grid={self.grid} has {self.num_points} places; there are'
        f' {modelnet40.NUM_POINTS} points.'
      )
    if self.validation_fraction:
      self.eval_splits = ('validation', 'test')

  @property
  def num_points(self) -> int:
    """M, the number of points that the model sees."""
    return math.prod(self.grid) if self.grid else modelnet40.NUM_POINTS

  @property
  def modalities(self) -> Mapping[str, Modality]:
    cloud = Points(
      num_bands=self.num_bands,
      num_points=self.num_points,
      max_resolution=self.max_resolution,
      grid=self.grid,
    )
    return {'points': cloud}

  def num_examples(self, split: str) -> int:
    sizes = modelnet40.get(self.dataset).sizes
    if split == 'test':
      return sizes['test']
    published = range(sizes['train'])
    return len(splits.subset(published, split, self.validation_fraction))

  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    if split == 'test':
      return modelnet40.open_source(self.dataset, 'test', data_dir)
    published = modelnet40.open_source(self.dataset, 'train', data_dir)
    return splits.subset(published, split, self.validation_fraction)

  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    cloud = normalize_points(record['points'])
    if self.grid is not None:
      cloud = rng.permutation(cloud)
    cloud = points.rotate(cloud, self.max_rotation, self.vertical_axis, rng)
    cloud = points.translate(cloud, self.max_translation, rng)
    cloud = points.scale(cloud, self.max_scaling, rng)
    return self.eval_example({**record, 'points': cloud})

  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    # The first points are as random as any: that is how they were sampled.
    cloud = record['points'][: self.num_points]
    return {
      'points': normalize_points(cloud),
      'label': np.asarray(record['label'], np.int32),
    }

  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    return {
      'points': jax.ShapeDtypeStruct((self.num_points, 3), jnp.float32),
      'label': jax.ShapeDtypeStruct((), jnp.int32),
    }

  def class_names(self, data_dir: str | None) -> Sequence[str]:
    del data_dir
    return self.categories

  @property
  def display(self) -> Display:
    return CloudDisplay(self.vertical_axis)


@dataclasses.dataclass(frozen=True)
class CloudDisplay(Display):
  """Shows a cloud upright."""

  vertical_axis: int

  def views(self, window: Batch) -> tuple[View, ...]:
    cloud = np.roll(window['points'], 2 - self.vertical_axis, axis=1)
    return (View('points', cloud, (len(cloud),)),)
