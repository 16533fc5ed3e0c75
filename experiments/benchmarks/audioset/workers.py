"""Runs jobs in processes that may die, without harm to other jobs.

Pebble's pool replaces processes that died and kills those that hang. The limits
of memory and of processor time are set in the processes themselves.
"""

import collections
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import process
import contextlib
import dataclasses
import math
import multiprocessing
import resource
import signal
import time
from typing import Any

import pebble

MAX_MEMORY = 8 * 2**30  # Bytes of address space for each worker.
# Signals from outside: a scheduler ends a run, a machine is out of memory.
OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


@dataclasses.dataclass(frozen=True)
class Job:
  """A function call, for some worker."""

  function: Callable[[Any], Any]
  argument: Any
  seconds: float = math.inf  # Of processor time; then the worker is killed.
  patience: float = math.inf  # By the clock; then too.
  tries: int = 3  # In all, if others kill the worker; the job may be innocent.


@dataclasses.dataclass(frozen=True)
class Lost:
  """The result of a job whose worker died or was killed, with the reason."""

  reason: str


class Workers:
  """Processes for jobs. Use it as a context manager, which ends them."""

  def __init__(self, num_processes: int, module: str):
    """Imports `module`, which has the functions, before a job's time begins."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([module])
    self._new_pool = lambda: pebble.ProcessPool(
      num_processes, initializer=_limit_memory, context=context
    )
    self._pool = self._new_pool()
    self._max_running = 2 * num_processes  # Behind each running job, one waits.
    self._queue: collections.deque[Job] = collections.deque()

  def __enter__(self) -> 'Workers':
    return self

  def __exit__(self, *error: object) -> None:
    self._end_processes()

  def _end_processes(self) -> None:
    self._pool.stop()
    self._pool.join()

  def submit(self, job: Job) -> None:
    """Makes a job the next one."""
    self._queue.appendleft(job)

  def run(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Any]]:
    """Runs these jobs, and those that are submitted meanwhile.

    Args:
      jobs: asked for the next one when few are left to do.

    Returns:
      Jobs, with what their functions returned or `Lost`, as they end.

    Raises:
      Exception: what a function raised.
      OSError: if processes cannot start, or end without a job.
    """
    running: dict[futures.Future, Job] = {}
    while True:
      while len(running) < self._max_running:
        job = self._queue.popleft() if self._queue else next(jobs, None)
        if job is None:
          break
        running[self._schedule(job)] = job
      if not running:
        return
      done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
      for future in done:
        job = running.pop(future)
        if job.tries > 1 and _is_killed(future):
          self.submit(dataclasses.replace(job, tries=job.tries - 1))
        else:
          yield job, _result(future, job)

  def _schedule(self, job: Job) -> futures.Future:
    if not self._pool.active:  # Its processes were killed as they began.
      self._end_processes()
      self._pool = self._new_pool()
    return self._pool.schedule(
      _call,
      args=(job.function, job.argument, job.seconds),
      timeout=None if math.isinf(job.patience) else job.patience,
    )


def _is_killed(future: futures.Future) -> bool:
  error = future.exception()
  if isinstance(error, pebble.ProcessExpired):
    return -error.exitcode in OUTSIDE
  return isinstance(error, process.BrokenProcessPool)


def _result(future: futures.Future, job: Job) -> Any:
  try:
    return future.result()
  except pebble.ProcessExpired as error:
    if error.exitcode == -signal.SIGXCPU:
      return Lost(f'It took more than {job.seconds:g} s.')
    return Lost(f'Its process died ({_name(error.exitcode)}).')
  except process.BrokenProcessPool as error:
    raise OSError(f'Processes cannot start, or are killed: {error}.') from error
  except TimeoutError:
    if math.isinf(job.patience):  # The function's own error.
      raise
    return Lost(f'It hung for {job.patience:g} s.')


def _name(status: int) -> str:
  """Names the signal that ended a process, or the status that it ended with."""
  return signal.Signals(-status).name if status < 0 else f'status {status}'


def _limit_memory() -> None:
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  with contextlib.suppress(ValueError):  # The limit is lower already.
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, hard))


def _call(function: Callable[[Any], Any], argument: Any, seconds: float) -> Any:
  # Processor time, from now on: the load of others does not count.
  _, hard = resource.getrlimit(resource.RLIMIT_CPU)
  limit = resource.RLIM_INFINITY
  if math.isfinite(seconds):
    limit = math.ceil(time.process_time() + seconds)
  with contextlib.suppress(ValueError):  # The limit is lower already.
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
  return function(argument)
