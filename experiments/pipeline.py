"""The Grain pipeline: from records to batches, in a reproducible order.

Training reads one endless stream: the examples of epoch 0 in a random order,
then those of epoch 1 in another, and so on. The order and the augmentation
depend on the seed alone. Batches are consecutive parts of the stream, dealt to
the processes in turn. So a checkpoint only needs the position in the stream, in
examples, which is valid for any number of processes and workers and any batch
size.

A damaged record becomes an example that is masked out. It is named and counted,
and too many of them end the run.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
import contextlib
import logging
import math
from typing import Any

import grain
import numpy as np

from experiments import data_workers
from experiments.data_workers import NumpyBatch
from experiments.errors import DamagedDataError, DamagedRecordError
from experiments.task import Task

log = logging.getLogger(__name__)

ENDLESS = 2**31  # Epochs. With None, a length overflows for batches of one.
MAX_REASON = 1000  # Bytes of the reason why a record is damaged.
# Takes a damaged record's index and the reason; returns how many are known over
# all processes and launches.
OnDamaged = Callable[[int, str], int]


def train_batches(
  task: Task,
  source: Sequence[Any],
  *,
  batch_size: int,
  seed: int,
  position: int = 0,
  num_workers: int = 0,
  max_damaged: float = 0.0,
  process_index: int = 0,
  process_count: int = 1,
  on_damaged: OnDamaged | None = None,
) -> Generator[NumpyBatch]:
  """Yields this process's share of each global batch, without an end.

  Args:
    task: decodes and augments.
    source: the training split's records.
    batch_size: examples in a global batch, divisible by `process_count`, after
      `task.augment_batch` has mixed `task.num_mixed` into each.
    seed: seed of the order and the augmentation.
    position: where to begin in the stream: examples, over all processes, that
      came before.
    num_workers: number of processes that decode; 0: a thread decodes.
    max_damaged: the largest fraction of damaged records to go on with.
    process_index: index of this process.
    process_count: number of processes.
    on_damaged: called once for each record that turns out to be damaged.

  Returns:
    Batches of task.num_mixed * batch_size / process_count examples; close it
    when done. Examples that are mixed follow each other, also in the stream.

  Raises:
    DamagedDataError: from `next`, for too many damaged records.
    WorkersDiedError: from `next`, if workers die repeatedly.
  """

  def example(index: int, rng: np.random.Generator) -> NumpyBatch:
    return _example(
      spec, index, True, lambda: task.train_example(source[index], rng)
    )

  spec = task.example_spec()
  indices = grain.MapDataset.range(len(source)).seed(seed).shuffle()
  indices = indices.repeat(ENDLESS)
  examples = indices.random_map(example)[position:]
  if task.num_mixed > 1:
    examples = examples.batch(task.num_mixed)
  share = examples[process_index::process_count]
  batches = data_workers.read(share, batch_size // process_count, num_workers)
  if task.num_mixed > 1:
    batches = _joined(batches)
  return _report_damaged(batches, len(source), max_damaged, on_damaged)


def eval_batches(
  task: Task,
  source: Sequence[Any],
  *,
  batch_size: int,
  num_workers: int = 0,
  max_damaged: float = 0.0,
  process_index: int = 0,
  process_count: int = 1,
  on_damaged: OnDamaged | None = None,
) -> Generator[NumpyBatch]:
  """Yields every example once, in order.

  The last batch is padded; its mask is False there. 'record' [batch] has the
  indices of the examples in the split. Arguments and errors are those of
  `train_batches`.
  """
  count = len(source)
  padded = -(-count // batch_size) * batch_size

  def example(index: int) -> NumpyBatch:
    record = index if index < count else 0
    example = _example(
      spec, record, index < count, lambda: task.eval_example(source[record])
    )
    return {**example, 'record': np.int32(record)}

  spec = task.eval_spec()
  examples = grain.MapDataset.range(padded).map(example)
  share = examples[process_index::process_count]
  batches = data_workers.read(share, batch_size // process_count, num_workers)
  return _report_damaged(batches, len(source), max_damaged, on_damaged)


def shared_bytes(
  spec: Mapping[str, Any], batch_size: int, num_workers: int
) -> int:
  """Returns the bytes of shared memory that a pipeline's batches take.

  Args:
    spec: the arrays of an example.
    batch_size: examples in this process's share of a batch.
    num_workers: number of this process's workers.
  """
  sizes = [math.prod(x.shape) * x.dtype.itemsize for x in spec.values()]
  sizes += [1, 8, 4, MAX_REASON]  # 'mask', 'damaged', 'record', 'reason'.
  arrays = [batch_size * size for size in sizes]
  return data_workers.bytes_of_batches(arrays, num_workers)


def _example(
  spec: Mapping[str, Any],
  index: int,
  exists: bool,
  decode: Callable[[], NumpyBatch],
) -> NumpyBatch:
  """Returns a record's example with its mask, and the damage if there is any.

  The reason travels as bytes, because workers hand over arrays only, and
  decoding again may not fail, since augmentation is random.
  """
  damaged, reason = -1, b''
  try:
    example = decode()
  except DamagedRecordError as error:
    example = {name: np.zeros(x.shape, x.dtype) for name, x in spec.items()}
    exists, damaged = False, index
    reason = str(error).encode(errors='replace')[:MAX_REASON]
  return {
    **example,
    'mask': np.bool_(exists),
    'damaged': np.int64(damaged),
    'reason': np.array(reason, f'S{MAX_REASON}'),
  }


def _joined(batches: Generator[NumpyBatch]) -> Generator[NumpyBatch]:
  """Yields batches of groups [B, G, ...] as batches of examples [B G, ...]."""
  with contextlib.closing(batches):
    for batch in batches:
      yield {k: x.reshape(-1, *x.shape[2:]) for k, x in batch.items()}


def _report_damaged(
  batches: Generator[NumpyBatch],
  count: int,
  max_damaged: float,
  on_damaged: OnDamaged | None,
) -> Generator[NumpyBatch]:
  """Names each damaged record once; raises if too many of `count` are."""
  damaged: set[int] = set()
  try:
    for batch in batches:
      indices, reasons = batch.pop('damaged'), batch.pop('reason')
      found = dict(zip(indices.tolist(), reasons.tolist(), strict=True))
      for index in sorted(found.keys() - damaged - {-1}):
        damaged.add(index)
        reason = found[index].decode(errors='replace')
        known, advice = len(damaged), ''
        if on_damaged is not None:
          known = max(known, on_damaged(index, reason))
          advice = (
            ' (skipped_*.jsonl in the workdir names them; remove these files'
            ' once the data is mended)'
          )
        log.warning(
          'Skipped record %d of %d, damaged record no. %d: %s',
          *(index, count, known, reason),
        )
        if known > max_damaged * count:
          raise DamagedDataError(
            f'{known} of {count} records are damaged, more than'
            f' data.max_damaged={max_damaged} allows{advice}; the last:'
            f' {reason}'
          )
      yield batch
  finally:
    batches.close()
