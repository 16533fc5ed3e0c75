"""Processes that may die: what happens to a job does not happen to the rest."""

import collections
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import importlib
import itertools
import math
import multiprocessing
from multiprocessing import connection as mp_connection
import resource
import signal
import time
from types import TracebackType
from typing import Any

MAX_MEMORY = 8 * 2**30  # Bytes of address space for each worker.


@dataclasses.dataclass(frozen=True)
class Job:
  """A call of a function of a module, in some worker."""

  function: Callable[[Any], Any]
  argument: Any
  seconds: float = math.inf  # Of processor time; the worker is killed then.
  patience: float = math.inf  # Seconds by the clock, likewise.


@dataclasses.dataclass(frozen=True)
class Lost:
  """What a job gave whose worker was killed, or died; and why."""

  reason: str


class _Worker:
  """A process, and what it does at the moment."""

  def __init__(self, context: Any, module: str):
    self.connection, other = context.Pipe()
    self.process = context.Process(
      target=_work, args=(other, module), daemon=True
    )
    self.process.start()
    other.close()
    self.job: Job | None = None
    self.ready = False  # For a job; a job's time begins when it is handed over.
    self.deadline = math.inf

  def hand_over(self, job: Job) -> None:
    self.connection.send((job.function, job.argument, job.seconds))
    self.job, self.ready = job, False
    self.deadline = time.monotonic() + job.patience

  def is_late(self) -> bool:
    # What it has sent since we looked is not late.
    return time.monotonic() > self.deadline and not self.connection.poll()

  def stop(self) -> int | None:
    """Kills it; the status that it had, or has now."""
    self.process.kill()
    self.process.join()
    self.connection.close()
    return self.process.exitcode


class Workers:
  """Some processes for jobs; to be used as a context, which ends them."""

  def __init__(self, num_processes: int, module: str):
    """`module`: of the functions; imported before a job's time begins."""
    self._module = module
    self._context: Any = multiprocessing.get_context('forkserver')
    self._context.set_forkserver_preload([module])
    self._queue: collections.deque[Job] = collections.deque()
    self._workers = [
      _Worker(self._context, module) for _ in range(num_processes)
    ]

  def __enter__(self) -> 'Workers':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    for worker in self._workers:
      worker.stop()

  def submit(self, job: Job) -> None:
    """Lets a job be the next one."""
    self._queue.appendleft(job)

  def run(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Any]]:
    """Runs these jobs, and those that are submitted meanwhile.

    Args:
      jobs: asked for the next ones when there are idle workers.

    Returns:
      Jobs, with what their functions returned or `Lost`, as they end.

    Raises:
      Exception: what a function raised.
      RuntimeError: if a process cannot start.
    """
    while True:
      if not self._queue:
        self._queue.extend(itertools.islice(jobs, len(self._workers)))
      if not self._queue and not any(worker.job for worker in self._workers):
        return
      for worker in self._workers:
        if worker.ready and self._queue:
          worker.hand_over(self._queue.popleft())
      deadline = min(worker.deadline for worker in self._workers)
      timeout = max(0.0, deadline - time.monotonic())
      ready = mp_connection.wait(
        [worker.connection for worker in self._workers],
        None if math.isinf(timeout) else timeout,
      )
      for i, worker in enumerate(self._workers):
        job = worker.job
        if worker.connection in ready:
          try:
            result, error = worker.connection.recv()
          except (EOFError, OSError):
            status = self._replace(i)
            if job is None:
              raise RuntimeError(
                f'A worker process ended without a job ({_name(status)}).'
              ) from None
            result, error = Lost(_reason(status, job)), None
          else:
            worker.job, worker.ready, worker.deadline = None, True, math.inf
        elif job is not None and worker.is_late():
          self._replace(i)
          result, error = Lost(f'It hung for {job.patience:g} s.'), None
        else:
          continue
        if error is not None:
          raise error
        if job is not None:
          yield job, result

  def _replace(self, index: int) -> int | None:
    status = self._workers[index].stop()
    self._workers[index] = _Worker(self._context, self._module)
    return status


def _reason(status: int | None, job: Job) -> str:
  if status == -signal.SIGXCPU:
    return f'It took more than {job.seconds:g} s.'
  return f'Its process died ({_name(status)}).'


def _name(status: int | None) -> str:
  """Of a signal that ended a process, or the status that it ended with."""
  if status is not None and status < 0:
    return signal.Signals(-status).name
  return f'status {status}'


def _work(connection: Any, module: str) -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends it.
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  with contextlib.suppress(ValueError):  # The limit is lower already.
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, hard))
  importlib.import_module(module)
  try:
    connection.send((None, None))  # It has started.
    while True:
      function, argument, seconds = connection.recv()
      _limit_time(seconds)
      message: tuple[Any, Exception | None]
      try:
        message = function(argument), None
      except Exception as error:
        message = None, error
      connection.send(message)
  except (EOFError, BrokenPipeError, ConnectionResetError):
    return  # The parent is gone.


def _limit_time(seconds: float) -> None:
  """Of the processor, from now on: others' load is not the job's fault."""
  _, hard = resource.getrlimit(resource.RLIMIT_CPU)
  limit = resource.RLIM_INFINITY
  if math.isfinite(seconds):
    limit = math.ceil(time.process_time() + seconds)
  with contextlib.suppress(ValueError):  # The limit is lower already.
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
