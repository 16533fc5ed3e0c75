"""Prepares ModelNet40, and what is read like it, as array_record files.

It is a TFDS builder, in a folder without others' files because TFDS looks there
for files of its own; it needs no TensorFlow, neither to prepare nor to read.
"""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import glob
import io
import logging
import os
import shutil
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from tqdm.contrib import logging as tqdm_logging

from experiments.benchmarks.modelnet40 import archives, shapes
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.benchmarks.modelnet40.source import Dataset
from experiments.errors import PreparationError

log = logging.getLogger(__name__)

MAX_SKIPPED = 0.01  # Of all shapes; with more, something else is wrong.


class PointClouds(tfds.core.GeneratorBasedBuilder):
  """Clouds of points on shapes, with the shape's class."""

  name = modelnet40.BUILDER
  VERSION = tfds.core.Version(modelnet40.VERSION)

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
            shape=(modelnet40.NUM_POINTS, 3), dtype=np.float32
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
    chosen = [shape for shape in self._shapes if shape.split == split]
    for shape in tqdm.tqdm(chosen, desc=split, unit=' shapes'):
      try:
        points = shape.read()
      except ValueError as error:
        self._skip(shape.name, str(error))
        continue
      yield (
        shape.name,
        {'points': points, 'label': shape.category, 'name': shape.name},
      )

  def _skip(self, name: str, reason: str) -> None:
    log.warning('Skipped %s: %s', name, reason)
    skipped = self.info.metadata['skipped']
    skipped[name] = reason
    if len(skipped) > MAX_SKIPPED * len(self._shapes):
      raise PreparationError(
        f'{len(skipped)} of {len(self._shapes)} shapes cannot be read, the last'
        f' of them {name}: {reason} Is the archive whole?'
      )


def differences(found: Sequence[shapes.Shape], expected: Dataset) -> list[str]:
  """What an archive has more or less than the whole data set; [] if nothing."""
  categories = {shape.category for shape in found}
  lines = []
  if missing := sorted(set(expected.categories) - categories):
    lines.append(f'no shapes of {", ".join(missing)}')
  if unknown := sorted(categories - set(expected.categories)):
    lines.append(f'shapes of unknown classes: {", ".join(unknown)[:200]}')
  names = collections.Counter(shape.name for shape in found)
  if doubles := [name for name, count in names.items() if count > 1]:
    lines.append(f'several shapes of one name: {", ".join(doubles)[:200]}')
  counts = collections.Counter(shape.split for shape in found)
  for split, size in expected.sizes.items():
    if counts[split] != size:
      lines.append(f'{counts[split]:,} shapes for {split} instead of {size:,}')
  return lines


def prepare(name: str, source: str, data_dir: str) -> str:
  """Writes a data set that `modelnet40.open_source` reads; it may exist.

  Its directory appears only when everything is in it; what a kill left of an
  earlier try is removed.

  Args:
    name: of the data set, a key of `modelnet40.DATASETS`.
    source: its archive.
    data_dir: to write to.

  Returns:
    One line on what is there now.

  Raises:
    FileNotFoundError: if there is no archive.
    archives.ArchiveError: if it cannot be read.
    PreparationError: if it has other shapes than it should, or too many of
      them are damaged.
  """
  expected = modelnet40.get(name)
  path = modelnet40.directory(name, data_dir)
  if os.path.isdir(path):
    return f'{path} is prepared already; remove it to prepare it again.'
  with archives.open_archive(source) as archive:
    found = shapes.read_archive(archive, expected.form)
    if lines := differences(found, expected):
      raise PreparationError(
        f'{source} is not the whole data set {name!r}: {"; ".join(lines)}.'
      )
    _remove_leftovers(path)
    builder = PointClouds(
      shapes=found,
      dataset=expected,
      config=tfds.core.BuilderConfig(name=name),
      data_dir=data_dir,
      file_format='array_record',
    )
    tfds.disable_progress_bar()  # Ours knows the totals.
    with (
      contextlib.redirect_stdout(io.StringIO()),  # It speaks of downloads.
      tqdm_logging.logging_redirect_tqdm(),
    ):
      builder.download_and_prepare()
  return _summary(path)


def _remove_leftovers(path: str) -> None:
  """What TFDS was writing to when it was killed, before it could rename it."""
  parent, version = os.path.split(path)
  for leftover in glob.glob(f'{glob.escape(parent)}/incomplete.*_{version}'):
    log.info('Removed what an interrupted run left: %s.', leftover)
    shutil.rmtree(leftover)


def _summary(path: str) -> str:
  info = tfds.builder_from_directory(path).info
  sizes = ', '.join(
    f'{split.num_examples:,} for {name}' for name, split in info.splits.items()
  )
  skipped = len(info.metadata['skipped'])
  return f'{path}: {sizes}; {skipped} skipped (named in metadata.json).'
