"""The memory in which worker processes hand batches over.

On Linux it is a file system of its own, which in containers may have 64 MB,
whatever the machine has.
"""

from collections.abc import Iterable
import mmap
import shutil

SHARED_MEMORY = '/dev/shm'  # Where Linux has it.
SEMAPHORES = 32  # Pages that the queues and events of a worker take.


def bytes_of_batches(arrays: Iterable[int], num_workers: int) -> int:
  """Bytes that the batches of Grain's workers take at most.

  Each array is handed over in a piece of its own, of whole pages. Of each
  worker's batches one is being made and one waits in its queue, and in the
  run's process one waits and one is being read; the run works on another one
  while it takes the next.

  Args:
    arrays: bytes of each array of a batch.
    num_workers: the processes; with 0 nothing is handed over.
  """
  if num_workers == 0:
    return 0
  pages = sum(-(-size // mmap.PAGESIZE) for size in arrays)
  batches = 4 * num_workers + 2
  return (batches * pages + SEMAPHORES * num_workers) * mmap.PAGESIZE


def check_shared_memory(needed: int) -> None:
  """Raises OSError if so many bytes are not free."""
  try:
    usage = shutil.disk_usage(SHARED_MEMORY)
  except FileNotFoundError:  # It is not Linux.
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
  """Says what to do where it is too small."""
  return (
    f'Start the container with more (docker run --shm-size={gigabytes}g), or do'
    ' without: --config.data.num_workers=0.'
  )
