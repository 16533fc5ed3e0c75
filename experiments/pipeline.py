"""The Grain pipeline: from records to batches, in a reproducible order.

Training reads one endless stream: the examples of epoch 0 in a random order,
then those of epoch 1 in another, and so on. Its order and its augmentation
depend on the seed alone. Batches are consecutive runs of the stream, dealt to
the processes in turn, so the position in the stream, in examples, is all that
a checkpoint needs; it holds for any number of processes, workers and any batch
size.

A damaged record becomes an example that is masked out; it is named and counted,
and too many of them end the run.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
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

ENDLESS = 2**31  # Epochs. Without a number, batches of one overflow a length.
MAX_REASON = 1000  # Bytes of the reason why a record is damaged.
# Told a record's index, and why; returns how many are known to be damaged, over
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
  """This process's share of each global batch, from `position` on, endless.

  Args:
    task: decodes and augments.
    source: the training split's records.
    batch_size: of the global batch, divisible by `process_count`.
    seed: of order and augmentation.
    position: examples of the stream, over all processes, that came before.
    num_workers: processes that decode; 0: threads of this one.
    max_damaged: the largest fraction of damaged records to go on with.
    process_index: of this process.
    process_count: of all processes.
    on_damaged: called once for each record that turns out to be damaged.

  Returns:
    Batches of batch_size / process_count examples; to be closed when done.

  Raises:
    DamagedDataError: from `next`, for too many damaged records.
    WorkersDiedError: from `next`, if workers die again and again.
  """

  def example(index: int, rng: np.random.Generator) -> NumpyBatch:
    return _example(
      spec, index, True, lambda: task.train_example(source[index], rng)
    )

  spec = task.example_spec()
  indices = grain.MapDataset.range(len(source)).seed(seed).shuffle()
  indices = indices.repeat(ENDLESS)
  examples = indices.random_map(example)

  def start(done: int) -> grain.DatasetIterator:
    first = position + done * batch_size + process_index
    share = examples[first::process_count]
    return data_workers.iterate(
      share.batch(batch_size // process_count), num_workers
    )

  batches = data_workers.restarted(start)
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
  """Every example once, in order; the last batch is filled up, mask False.

  'record' [batch] tells which of the split they are. Raises what
  `train_batches` raises.
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

  def start(done: int) -> grain.DatasetIterator:
    share = examples[done * batch_size + process_index :: process_count]
    return data_workers.iterate(
      share.batch(batch_size // process_count), num_workers
    )

  batches = data_workers.restarted(start)
  return _report_damaged(batches, len(source), max_damaged, on_damaged)


def shared_bytes(
  spec: Mapping[str, Any], batch_size: int, num_workers: int
) -> int:
  """Bytes of shared memory that the batches of a pipeline take.

  Args:
    spec: the examples' arrays.
    batch_size: of this process's share.
    num_workers: its workers.
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
  """A record's example, with its mask; if it is damaged, its index and why.

  The reason travels as bytes: workers hand over arrays, not errors, and another
  try to decode may not fail where augmentation is random.
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


def _report_damaged(
  batches: Generator[NumpyBatch],
  count: int,
  max_damaged: float,
  on_damaged: OnDamaged | None,
) -> Generator[NumpyBatch]:
  """Names each damaged record once; stops when they are too many of `count`."""
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
