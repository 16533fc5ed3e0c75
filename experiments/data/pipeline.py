"""The Grain pipeline: from records to batches, in a reproducible order.

Training reads one endless stream: the examples of epoch 0 in a random order,
then those of epoch 1 in another, and so on. Its order and its augmentation
depend on the seed alone. Batches are consecutive runs of the stream, dealt to
the processes in turn, so the position in the stream, in examples, is all that
a checkpoint needs; it holds for any number of processes, workers and any batch
size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from experiments.tasks import Task

NumpyBatch = dict[str, Any]  # NumPy arrays [batch, ...] by name.


def train_batches(
  task: Task,
  source: Sequence[Any],
  *,
  batch_size: int,
  seed: int,
  position: int = 0,
  num_workers: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[NumpyBatch]:
  """This process's share of each global batch, from `position` on, endless.

  Args:
    task: decodes and augments.
    source: the training split's records.
    batch_size: of the global batch, divisible by `process_count`.
    seed: of order and augmentation.
    position: examples of the stream, over all processes, that came before.
    num_workers: processes that decode; 0: threads of this one.
    process_index: of this process.
    process_count: of all processes.

  Returns:
    Batches of batch_size / process_count examples.
  """

  def example(record: Any, rng: np.random.Generator) -> NumpyBatch:
    return {**task.train_example(record, rng), 'mask': np.True_}

  stream = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  examples = stream.random_map(example)[
    position + process_index :: process_count
  ]
  return _iterate(examples.batch(batch_size // process_count), num_workers)


def eval_batches(
  task: Task,
  source: Sequence[Any],
  *,
  batch_size: int,
  num_workers: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[NumpyBatch]:
  """Every example once, in order; the last batch is filled up, mask False."""
  count = len(source)
  padded = -(-count // batch_size) * batch_size

  def example(index: int) -> NumpyBatch:
    record = source[index if index < count else 0]
    return {**task.eval_example(record), 'mask': np.bool_(index < count)}

  examples = grain.MapDataset.range(padded).map(example)
  examples = examples[process_index::process_count]
  return _iterate(examples.batch(batch_size // process_count), num_workers)


def _iterate(
  batches: grain.MapDataset, num_workers: int
) -> Iterator[NumpyBatch]:
  if num_workers == 0:
    read_options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(batches.to_iter_dataset(read_options))
  options = grain.MultiprocessingOptions(num_workers=num_workers)
  return iter(batches.to_iter_dataset().mp_prefetch(options))
