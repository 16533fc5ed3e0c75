"""Times contenders, each in a process of its own."""

import multiprocessing
import resource
import statistics
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from scripts.benchmark import contenders, peers
from scripts.benchmark.contenders import Contender
from scripts.shared import measurements


def peak_of_host() -> int:
  """Returns the peak memory of this process."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_bytes() -> int:
  """Returns the peak memory of JAX's first device; on a CPU, of the process."""
  if jax.default_backend() == 'cpu':
    return peak_of_host()
  return jax.devices()[0].memory_stats()['peak_bytes_in_use']


def _work(contender: Contender, pipe: Any) -> None:
  """Runs in a contender's process: times a step for each message."""
  if contender.peer:
    prepared = peers.prepare(
      contender.name,
      contender.mode,
      contender.batch_size,
      peers.size_of(ConfigDict(contender.config)),
    )
    backend, device = 'cpu', ''
  else:
    prepared = contenders.prepare(contender)
    backend = jax.default_backend()
    device = jax.devices()[0].device_kind
  prepared.step()  # Not timed: it fills caches and allocates.
  if backend == 'cpu':
    device = measurements.processor()
  facts = {**vars(prepared), 'platform': backend, 'device': device}
  del facts['step']
  pipe.send(facts)
  while pipe.recv():
    # Not timed: in training one step follows another, but while a process waits
    # for its turn, caches and even the memory that it freed go cold.
    prepared.step()
    start = time.perf_counter()
    prepared.step()
    pipe.send(time.perf_counter() - start)
  pipe.send(peak_of_host() if backend == 'cpu' else peak_bytes())


class Worker:
  """The handle of a contender's process."""

  def __init__(self, contender: Contender):
    """Starts the process and waits until it is ready to be timed."""
    self.contender = contender
    self.times: list[float] = []
    context = multiprocessing.get_context('spawn')
    self._pipe, other = context.Pipe()
    self._process = context.Process(
      target=_work, args=(contender, other), daemon=True
    )
    self._process.start()
    other.close()
    self._facts = self._receive()
    self.shares_the_cpu = self._facts['platform'] == 'cpu'

  def _receive(self) -> Any:
    try:
      return self._pipe.recv()
    except EOFError:
      self._process.join()
      raise ChildProcessError(
        f'{self.contender.name} ({self.contender.mode}) died with status'
        f' {self._process.exitcode}; -9 means out of memory.'
      ) from None

  def run(self) -> None:
    self._pipe.send(True)
    self.times.append(self._receive())

  def finish(self) -> dict[str, Any]:
    """Ends the process and returns its results, see `measure`."""
    self._pipe.send(False)
    peak_bytes = self._receive()
    self._process.join()
    median = statistics.median(self.times)
    return {
      'name': self.contender.name,
      'mode': self.contender.mode,
      'batch_size': self.contender.batch_size,
      **self._facts,
      'step_s': self.times,
      'median_s': median,
      'examples_per_s': self.contender.batch_size / median,
      'flops_per_s': self._facts['flops'] / median,
      'peak_bytes': peak_bytes,
    }


def measure(
  contenders: list[Contender], repetitions: int
) -> list[dict[str, Any]]:
  """Times all contenders, taking turns if they share the CPU.

  Returns:
    For each contender: name, mode, batch_size and parameters; flops per step as
    the paper counts; compile_s; step_s of all steps and median_s;
    examples_per_s and flops_per_s; compiler_bytes, the peak planned by the
    compiler, and peak_bytes, the measured peak of the process or device.
  """
  results, waiting = [], []
  for contender in contenders:
    worker = Worker(contender)
    if worker.shares_the_cpu:
      waiting.append(worker)
      continue
    for _ in range(repetitions):
      worker.run()
    results.append(worker.finish())
  for _ in range(repetitions):
    for worker in waiting:
      worker.run()
  return results + [worker.finish() for worker in waiting]
