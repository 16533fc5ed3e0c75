"""The TFDS builder of ModelNet40, and of data sets like it.

It has a folder to itself because TFDS looks there for files of its own. It
needs no TensorFlow, neither to prepare nor to read.
"""

from collections.abc import Iterator, Sequence
import logging
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from experiments.benchmarks.modelnet40 import shapes, source
from experiments.benchmarks.modelnet40.source import Dataset
from experiments.errors import PreparationError

log = logging.getLogger(__name__)

MAX_SKIPPED = 0.01  # Fraction of all shapes; more of them mean another fault.


class PointClouds(tfds.core.GeneratorBasedBuilder):
  """Clouds of points on shapes, with the shape's class."""

  name = source.BUILDER
  VERSION = tfds.core.Version(source.VERSION)

  def __init__(
    self, *, shapes: Sequence[shapes.Shape], dataset: Dataset, **kwargs: Any
  ):
    self._shapes = shapes
    self._dataset = dataset
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    categories = list(self._dataset.categories)
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'points': tfds.features.Tensor(
            shape=(source.NUM_POINTS, 3), dtype=np.float32
          ),
          'label': tfds.features.ClassLabel(names=categories),
          'name': tfds.features.Text(),
        }
      ),
      # TFDS writes it to metadata.json, beside the data.
      metadata=tfds.core.MetadataDict(skipped={}),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
    del dl_manager  # Nothing is downloaded.
    return {
      split: self._generate_examples(split) for split in ('train', 'test')
    }

  def _generate_examples(self, split: str) -> Iterator[Any]:
    skipped = self.info.metadata['skipped']
    chosen = [shape for shape in self._shapes if shape.split == split]
    chosen.sort(key=lambda shape: shape.position)
    for shape in tqdm.tqdm(chosen, desc=split, unit=' shapes'):
      try:
        points = shape.read()
      except ValueError as error:
        log.warning('Skipped %s: %s', shape.name, error)
        skipped[shape.name] = str(error)
        if len(skipped) > MAX_SKIPPED * len(self._shapes):
          raise PreparationError(
            f'{len(skipped)} of {len(self._shapes)} shapes cannot be read, the'
            f' last one {shape.name}: {error} Is the archive whole?'
          ) from error
        continue
      yield (
        shape.name,
        {'points': points, 'label': shape.category, 'name': shape.name},
      )
    # As TFDS does with the examples, so that archives may have any order.
    for name in sorted(skipped):
      skipped[name] = skipped.pop(name)
