"""Worker processes that decode data, and the shared memory for their batches.

On Linux shared memory is a file system of its own. In a container it may have
64 MB, whatever the machine has.
"""

from collections.abc import Generator, Iterable, Iterator
from concurrent import futures
import errno
import itertools
import logging
import mmap
import multiprocessing
from multiprocessing import resource_tracker
import os
import shutil
import signal
import sys
import threading
from typing import Any

from absl import flags
import grain

from experiments.errors import WorkersDiedError

log = logging.getLogger(__name__)

SHARED_MEMORY = '/dev/shm'  # Linux only.
SEMAPHORES = 32  # Pages for the queues and events of one worker.
MAX_DEATHS = 3  # Of workers, in a row.
CLOSE_SECONDS = 60.0  # For workers to end.
_NO_LEAK = 'ignore:resource_tracker'  # A filter for warnings.
_DEATH = 'process was terminated unexpectedly'  # Part of Grain's message.
# Schedulers and terminals send these to all processes of a run. The main one
# decides what happens: it still needs batches up to the step it stops after.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
NumpyBatch = dict[str, Any]  # NumPy arrays [batch, ...] by name.


def bytes_of_batches(arrays: Iterable[int], num_workers: int) -> int:
  """Returns the most bytes that the batches of Grain's workers take.

  Each array takes a piece of shared memory of its own, of whole pages. Each
  worker has four batches: one is being made, one waits in the worker's queue,
  one waits in the run's process and one is being read there. The run itself
  holds two more: one to work on while it takes the next.

  Args:
    arrays: bytes of each array of a batch.
    num_workers: number of worker processes; 0: they take no shared memory.
  """
  if num_workers == 0:
    return 0
  pages = sum(-(-size // mmap.PAGESIZE) for size in arrays)
  batches = 4 * num_workers + 2
  return (batches * pages + SEMAPHORES * num_workers) * mmap.PAGESIZE


def check_shared_memory(needed: int) -> None:
  """Raises OSError if so many bytes of shared memory are not free."""
  try:
    usage = shutil.disk_usage(SHARED_MEMORY)
  except FileNotFoundError:  # This is not Linux.
    return
  if needed > usage.free:
    gigabytes = -(-(usage.used + needed) // 2**30)
    raise OSError(
      'The batches that data.num_workers processes hand over need'
      f' {needed / 1e6:,.1f} MB of shared memory, but {SHARED_MEMORY} has'
      f' {usage.free / 1e6:,.1f} MB free of {usage.total / 1e6:,.1f} MB.'
      f' {remedies(gigabytes)}'
    )


def remedies(gigabytes: int | str) -> str:
  """Returns what to do if shared memory is too small."""
  return (
    f'Start the container with more (docker run --shm-size={gigabytes}g), or do'
    ' without: --config.data.num_workers=0.'
  )


def read(
  examples: grain.MapDataset, batch_size: int, num_workers: int
) -> Generator[NumpyBatch]:
  """Yields batches in order from workers, and restarts workers that have died.

  Args:
    examples: decoded when they are asked for.
    batch_size: examples in a batch.
    num_workers: number of worker processes; 0: a thread decodes.

  Returns:
    The batches: none is lost and none comes twice.

  Raises:
    WorkersDiedError: if workers die `MAX_DEATHS` times without any batch.
  """
  done = deaths = 0
  while True:
    rest = examples[done * batch_size :].batch(batch_size)
    batches = _iterate(rest, num_workers)
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
          f' place. Is memory short, or {SHARED_MEMORY} full? Fewer'
          f' data.num_workers need less. {error}'
        ) from error
      log.warning('%s They are started again.', error)
    except OSError as error:
      if error.errno != errno.ENOSPC:
        raise
      # Other processes of the machine, of this run or not, use it, too.
      raise OSError(
        f'{SHARED_MEMORY}, which hands batches over, is full. {remedies("N")}'
      ) from error
    finally:
      _close(batches)


def _iterate(
  batches: grain.MapDataset, num_workers: int
) -> grain.DatasetIterator:
  if num_workers == 0:
    read_options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(batches.to_iter_dataset(read_options))
  if not flags.FLAGS.is_parsed():
    # In a notebook, or with another library for flags. Grain reads its own
    # flags to start workers; they have their defaults.
    flags.FLAGS.mark_as_parsed()
  # One thread per worker, and one finished batch waiting: Grain's defaults are
  # 16 threads and 500 batches in each worker.
  read_options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  options = grain.MultiprocessingOptions(num_workers=num_workers)
  return iter(
    batches.to_iter_dataset(read_options).mp_prefetch(
      options, worker_init_fn=_live_with_the_run
    )
  )


def _close(batches: grain.DatasetIterator) -> None:
  """Ends the worker processes, but does not wait for ever.

  A worker that was killed while it held the lock of an event that it shares
  with Grain never frees it, and Grain waits for it.
  """
  thread = threading.Thread(target=batches.close, daemon=True)
  thread.start()
  thread.join(CLOSE_SECONDS)
  if thread.is_alive():
    log.warning(
      'Processes that decode data have not ended in %g s, and are killed.',
      CLOSE_SECONDS,
    )
    # Those of other batches, too: they are started again.
    for worker in multiprocessing.active_children():
      worker.kill()


def _live_with_the_run(worker_index: int, num_workers: int) -> None:
  """Makes a worker ignore signals, and end when the run's process ends."""
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
  """Yields batches from workers that no signal can reach while they start.

  A worker that dies before it has read its task makes Grain wait for ever.
  Grain starts its threads, and they start the workers, when the first batch is
  asked for. So a thread with the signals blocked asks for it: all that it
  starts inherits this, until each worker ignores the signals.
  """
  first: futures.Future[list[NumpyBatch]] = futures.Future()

  def ask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
      first.set_result(list(itertools.islice(batches, 1)))
    except Exception as error:
      first.set_exception(error)

  # Grain leaves the batches that workers had ready to Python's tracker, which
  # frees them but warns about a leak.
  if _NO_LEAK not in sys.warnoptions:
    sys.warnoptions.append(_NO_LEAK)
  # A tracker that starts in one of those threads would unblock the signals.
  resource_tracker.ensure_running()
  threading.Thread(target=ask, daemon=True).start()
  if first.result():
    yield first.result().pop()  # The future would keep it in memory.
  yield from batches
