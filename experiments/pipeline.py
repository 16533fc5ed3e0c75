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

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent import futures
import errno
import itertools
import logging
import math
import multiprocessing
from multiprocessing import resource_tracker
import os
import signal
import sys
import threading
from typing import Any

from absl import flags
import grain
import numpy as np

from experiments import data_workers
from experiments.errors import (
  DamagedDataError,
  DamagedRecordError,
  WorkersDiedError,
)
from experiments.task import Task

log = logging.getLogger(__name__)

MAX_DEATHS = 3  # Of workers, in a row.
_NO_LEAK = 'ignore:resource_tracker'  # A filter of warnings.
_DEATH = 'process was terminated unexpectedly'  # As Grain tells of one.
ENDLESS = 2**31  # Epochs. Without a number, batches of one overflow a length.
MAX_REASON = 1000  # Bytes of the reason why a record is damaged.
NumpyBatch = dict[str, Any]  # NumPy arrays [batch, ...] by name.
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
    return _iterate(share.batch(batch_size // process_count), num_workers)

  batches = _restarted(start)
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
    return _iterate(share.batch(batch_size // process_count), num_workers)

  batches = _restarted(start)
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


def _restarted(
  start: Callable[[int], grain.DatasetIterator],
) -> Generator[NumpyBatch]:
  """Batches of workers that, if they die, are started again where they were.

  Args:
    start: starts them, to go on after so many batches.

  Returns:
    The batches, none lost and none twice.

  Raises:
    WorkersDiedError: if they die `MAX_DEATHS` times without a batch between.
  """
  done = deaths = 0
  while True:
    batches = start(done)
    try:
      for batch in _start(batches):
        yield batch
        done += 1
        deaths = 0
      return
    except RuntimeError as error:
      if _DEATH not in str(error):
        raise
      deaths += 1
      if deaths == MAX_DEATHS:
        raise WorkersDiedError(
          f'Processes that decode data have died {deaths} times at the same'
          f' place. Is memory short, or {data_workers.SHARED_MEMORY} full?'
          f' Fewer data.num_workers need less. {error}'
        ) from error
      log.warning('%s They are started again.', error)
    except OSError as error:
      if error.errno != errno.ENOSPC:
        raise
      # Other processes of the machine share it, of this run or not.
      raise OSError(
        f'{data_workers.SHARED_MEMORY}, which hands batches over, is full.'
        f' {data_workers.remedies("N")}'
      ) from error
    finally:
      batches.close()  # Ends the worker processes.


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


def _iterate(
  batches: grain.MapDataset, num_workers: int
) -> grain.DatasetIterator:
  if num_workers == 0:
    read_options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(batches.to_iter_dataset(read_options))
  if not flags.FLAGS.is_parsed():
    # In a notebook, or with another library of flags. Grain reads flags of its
    # own to start workers: they have their defaults.
    flags.FLAGS.mark_as_parsed()
  # One thread a worker, and one finished batch waiting: Grain's own defaults
  # are 16 threads and 500 batches in each worker.
  read_options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  options = grain.MultiprocessingOptions(num_workers=num_workers)
  return iter(
    batches.to_iter_dataset(read_options).mp_prefetch(
      options, worker_init_fn=_live_with_the_run
    )
  )


# Schedulers and terminals send them to all processes of a run. The main one
# decides what happens: it still needs batches up to the step it stops after.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _live_with_the_run(worker_index: int, num_workers: int) -> None:
  """Makes a worker deaf to signals, and end when the run's process does."""
  del worker_index, num_workers
  for number in _SIGNALS:
    signal.signal(number, signal.SIG_IGN)
  run = multiprocessing.parent_process()
  assert run is not None

  def end_with_it() -> None:
    run.join()
    os._exit(1)

  threading.Thread(target=end_with_it, daemon=True).start()


def _start(batches: grain.DatasetIterator) -> Iterator[NumpyBatch]:
  """The batches, from workers that no signal reaches as they start.

  One that dies before it has read what to do makes Grain wait for ever. Grain
  starts its threads, and they the workers, as the first batch is asked for: a
  thread asks for it in which the signals are blocked, as they then are in all
  that comes of it until a worker ignores them.
  """
  first: futures.Future[list[NumpyBatch]] = futures.Future()

  def ask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
      first.set_result(list(itertools.islice(batches, 1)))
    except Exception as error:
      first.set_exception(error)

  # Grain leaves the batches that workers had ready to Python's tracker, which
  # frees them but warns of a leak.
  if _NO_LEAK not in sys.warnoptions:
    sys.warnoptions.append(_NO_LEAK)
  # Its own start, in one of those threads, would unblock the signals there.
  resource_tracker.ensure_running()
  threading.Thread(target=ask, daemon=True).start()
  if first.result():
    yield first.result().pop()  # Not kept here.
  yield from batches
