"""Writes a run's metrics: metrics.jsonl, TensorBoard, lines of progress."""

from collections.abc import Mapping
import datetime
import json
import logging
import os
import time

import jax
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from experiments import mirror, storage, telemetry

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0  # Between progress lines.
# Seconds between two flushes, at least; and the largest share of time for them.
FLUSH_SECONDS, FLUSH_SHARE = 10.0, 0.01


class MetricsWriter:
  """Writes metrics.jsonl and TensorBoard events; logs the progress."""

  def __init__(
    self,
    workdir: str,
    *,
    start_step: int,
    total_steps: int,
    batch_size: int,
    num_examples: int,
  ):
    """Opens the records of a run; only process 0 writes.

    Args:
      workdir: the run's directory.
      start_step: the step of the checkpoint that the run goes on from. Later
        metrics are removed, because they will be recorded again.
      total_steps: steps of the whole run.
      batch_size: examples in a step.
      num_examples: examples in an epoch.
    """
    self._total_steps = total_steps
    self._batch_size = batch_size
    self._num_examples = num_examples
    self._last: tuple[float, int] | None = None  # Time and step.
    self._enabled = jax.process_index() == 0
    if not self._enabled:
      return
    folder = storage.path(workdir)
    self._path = folder / telemetry.METRICS
    telemetry.forget_metrics(workdir, after=start_step)
    self._mirror = mirror.Mirror(folder)
    self._next_flush = time.monotonic() + FLUSH_SECONDS
    self._events = _Events(self._mirror.local, start_step + 1)

  def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
    """Records the metrics after a step."""
    if not self._enabled:
      return
    record = {'step': step, 'split': split, **metrics}
    record['time'] = round(time.time(), 3)
    telemetry.append(self._path, json.dumps(record) + '\n')
    for name, value in metrics.items():
      self._events.write(step, f'{split}/{name}', value)
    if time.monotonic() >= self._next_flush:
      self.flush()

  def flush(self) -> None:
    """Writes what waits to be written to a store; a disk has it already.

    Called before each save, so that no checkpoint has steps that the records
    lack. In between, `write` calls it for a small share of the time.
    All processes call it: each has a file of the records that it skipped.
    """
    begin = time.monotonic()
    telemetry.flush()
    if self._enabled:
      self._events.flush()
      self._mirror.flush()
      now = time.monotonic()
      self._next_flush = now + max(FLUSH_SECONDS, (now - begin) / FLUSH_SHARE)

  def progress(self, step: int, metrics: Mapping[str, float]) -> None:
    """Logs rate and remaining time, at most every few seconds."""
    now = time.monotonic()
    if self._last is None:  # The first step includes the compilation.
      self._last = (now, step)
      return
    then, step_then = self._last
    if now - then < PROGRESS_SECONDS and step != self._total_steps:
      return
    self._last = (now, step)
    rate = (step - step_then) / max(now - then, 1e-9)
    remaining = datetime.timedelta(
      seconds=round((self._total_steps - step) / rate)
    )
    values = ', '.join(f'{name} {value:.4g}' for name, value in metrics.items())
    log.info(
      'step %d/%d (epoch %.1f): %s | %.1f steps/s, %.0f examples/s, ETA %s',
      step,
      self._total_steps,
      step * self._batch_size / self._num_examples,
      values,
      rate,
      rate * self._batch_size,
      remaining,
    )

  def close(self) -> None:
    """Writes what waits, also if the run has failed."""
    try:
      telemetry.flush()
    finally:
      if self._enabled:
        self._events.close()
        self._mirror.close()


class _Events:
  """TensorBoard's events, in one file per launch.

  They are written at once. tensorboardX's own writer uses a thread, and waits
  for ever once that thread has failed on a full disk.
  """

  def __init__(self, folder: str, first_step: int):
    """Makes TensorBoard ignore these steps in the files of earlier launches."""
    self._folder = folder
    with storage.writing(folder):
      os.makedirs(folder, exist_ok=True)
      self._file = event_file_writer.EventsWriter(
        os.path.join(folder, 'events')
      )
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(event_pb2.Event(step=first_step, session_log=start))

  def write(self, step: int, name: str, value: float) -> None:
    scalar = summary.scalar(name, value)
    self._write(event_pb2.Event(step=step, summary=scalar))

  def _write(self, event: event_pb2.Event) -> None:
    event.wall_time = time.time()
    with storage.writing(self._folder):
      self._file.write_event(event)

  def flush(self) -> None:
    with storage.writing(self._folder):
      self._file.flush()

  def close(self) -> None:
    with storage.writing(self._folder):
      self._file.close()
