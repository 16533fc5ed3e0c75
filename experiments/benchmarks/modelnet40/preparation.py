"""Prepares ModelNet40, and data sets like it, as array_record files."""

import collections
from collections.abc import Sequence
import contextlib
import glob
import io
import logging
import os
import shutil

import tensorflow_datasets as tfds
from tqdm.contrib import logging as tqdm_logging

from experiments import storage
from experiments.benchmarks.modelnet40 import archives, layouts, shapes
from experiments.benchmarks.modelnet40.builder.point_clouds import PointClouds
from experiments.benchmarks.modelnet40.source import Dataset, directory, get
from experiments.errors import PreparationError

log = logging.getLogger(__name__)


def differences(found: Sequence[shapes.Shape], expected: Dataset) -> list[str]:
  """Lists what an archive has more or less than the whole data set."""
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
  """Writes a data set that `source.open_source` reads, unless it exists.

  Its directory appears only when everything is in it. What a killed try left is
  removed. Returns one line on what is there now.

  Raises:
    FileNotFoundError: if there is no archive or folder.
    archives.ArchiveError: if the archive cannot be read.
    PreparationError: if it has other shapes than it should, or too many of
      them are damaged.
    OSError: if the data set cannot be written.
  """
  expected = get(name)
  path = directory(name, storage.local(data_dir))
  if os.path.isdir(path):
    return f'{path} is prepared already; remove it to prepare it again.'
  with archives.open_archive(source) as archive:
    found = layouts.read_archive(archive, expected)
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
    tfds.disable_progress_bar()  # The builder's own bar knows the totals.
    with (
      contextlib.redirect_stdout(io.StringIO()),  # TFDS speaks of downloads.
      tqdm_logging.logging_redirect_tqdm([logging.getLogger('experiments')]),
      # array_record's writer raises RuntimeError.
      storage.writing(path, RuntimeError),
    ):
      builder.download_and_prepare()
  return _summary(path)


def _remove_leftovers(path: str) -> None:
  """Removes what TFDS was writing to when it was killed."""
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
