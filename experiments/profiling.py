"""Traces of some training steps, for TensorBoard's profiler and XProf."""

import logging
from typing import Any

import jax

from experiments import mirror, storage

log = logging.getLogger(__name__)


def parse_steps(text: str | None, total_steps: int) -> range:
  """Returns the steps that 'START:COUNT' names; none for None.

  Raises:
    ValueError: if the text has another form, or the run has no such steps.
  """
  if text is None:
    return range(0)
  try:
    start, count = map(int, text.split(':'))
  except ValueError:
    start = count = 0
  if start < 1 or count < 1:
    raise ValueError(
      f'train.profile_steps={text!r} is not START:COUNT, such as 100:3 for the'
      ' steps 100, 101 and 102.'
    )
  if start + count - 1 > total_steps:
    raise ValueError(
      f'train.profile_steps={text!r} goes beyond the last step, {total_steps}.'
    )
  return range(start, start + count)


class Profiler:
  """Traces steps of a run, on all devices and on the host."""

  def __init__(self, workdir: str, steps: range):
    """Writes to the workdir's plugins/profile, where TensorBoard looks."""
    self._workdir = workdir
    self._mirror: mirror.Mirror | None = None  # Where the trace is written.
    self._steps = steps
    self._annotation: Any = None  # Of the step being traced.

  def start(self, step: int) -> None:
    """Begins a step, before its data is read."""
    if step not in self._steps:
      return
    if self._mirror is None:
      self._mirror = mirror.Mirror(storage.path(self._workdir))
      jax.profiler.start_trace(self._mirror.local)
    self._annotation = jax.profiler.StepTraceAnnotation('train', step_num=step)
    self._annotation.__enter__()

  def stop(self, step: int, metrics: Any) -> None:
    """Ends a step, once it is dispatched; waits for the last traced one."""
    if self._annotation is not None:
      self._annotation.__exit__(None, None, None)
      self._annotation = None
    if self._mirror is not None and step + 1 not in self._steps:
      jax.block_until_ready(metrics)
      self.close()

  def close(self) -> None:
    """Writes what has been traced."""
    if self._mirror is not None:
      mirror, self._mirror = self._mirror, None
      jax.profiler.stop_trace()
      mirror.close()
      log.info('The trace is in %s/plugins/profile.', self._workdir)
