"""What a run says of itself: metrics, progress, and how it was launched."""

from collections.abc import Mapping, Sequence
import datetime
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import time
from typing import Any

from etils import epath
import jax
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from experiments import mirror, storage

log = logging.getLogger(__name__)

METRICS = 'metrics.jsonl'
CONFIG = 'config.json'
CLASSES = 'classes.json'
LAUNCHES = 'launches.jsonl'
ENDINGS = 'endings.jsonl'  # Of launches, but those that were killed.
SKIPPED_STEPS = 'nonfinite_steps.jsonl'
FINISHED = 'finished'
PROGRESS_SECONDS = 5.0  # Between progress lines.
PACKAGES = (
  'jax',
  'jaxlib',
  'dm-haiku',
  'optax',
  'orbax-checkpoint',
  'grain',
  'numpy',
  'ml-collections',
)


class Telemetry:
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
      start_step: the step of the checkpoint that the run goes on from; what
        was recorded later is forgotten, because it will be recorded again.
      total_steps: of the run.
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
    self._path = folder / METRICS
    if self._path.exists():
      records = [r for r in read_metrics(workdir) if r['step'] <= start_step]
      text = ''.join(json.dumps(r) + '\n' for r in records)
      storage.write(self._path, text)
    self._mirror = mirror.Mirror(folder)
    self._pace = mirror.Pace()
    self._events = _Events(self._mirror.local, start_step + 1)

  def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
    """Records metrics, as they stand after a step."""
    if not self._enabled:
      return
    record = {'step': step, 'split': split, **metrics}
    record['time'] = round(time.time(), 3)
    storage.append(self._path, json.dumps(record) + '\n')
    for name, value in metrics.items():
      self._events.write(step, f'{split}/{name}', value)
    if self._pace.is_due():
      self.flush()

  def flush(self) -> None:
    """Writes what waits to be written to a store; a disk has it already.

    Before a checkpoint is sealed, so that it never has steps that the records
    lack. In between `write` does it, for `mirror.Pace`'s share of the time.
    All processes call it: each has a file of the records that it skipped.
    """
    begin = time.monotonic()
    storage.flush()
    if self._enabled:
      self._events.flush()
      self._mirror.flush()
      self._pace.took(time.monotonic() - begin)

  def progress(self, step: int, metrics: Mapping[str, float]) -> None:
    """Logs rate and remaining time, at most every few seconds."""
    now = time.monotonic()
    if self._last is None:  # The first step took its time to compile.
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
    """Writes what waits, also where the run has failed."""
    try:
      storage.flush()
    finally:
      if self._enabled:
        self._events.close()
        self._mirror.close()


class _Events:
  """TensorBoard's events, in a file of their own for each launch.

  They are written here and now: tensorboardX's own writer does it in a thread,
  and once that thread has failed, on a full disk, waits for it for ever.
  """

  def __init__(self, folder: str, first_step: int):
    """Steps from the first on that are in earlier files hold no more."""
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


def read_metrics(workdir: str) -> list[dict[str, Any]]:
  """The metrics of a run, in the order of the steps."""
  return read_records(workdir, METRICS)


def read_records(workdir: str, name: str) -> list[dict[str, Any]]:
  """A file's lines of JSON, without a last one that a kill cut off."""
  records = []
  for line in (storage.path(workdir) / name).read_text().splitlines():
    try:
      records.append(json.loads(line))
    except ValueError:
      log.warning('%s has a broken line, ignored: %r', name, line[:80])
  return records


def write_files(workdir: str, files: Mapping[str, str | bytes]) -> None:
  """Writes files by name, each whole or not at all; only process 0 does."""
  storage.flush()  # What was skipped on the way.
  if jax.process_index() != 0:
    return
  for name, content in files.items():
    storage.write(storage.path(workdir) / name, content)


def _append(workdir: str, name: str, record: Mapping[str, Any]) -> None:
  time = datetime.datetime.now(datetime.UTC).isoformat()
  line = json.dumps({'time': time, **record}) + '\n'
  storage.append(storage.path(workdir) / name, line)


def record_skipped(workdir: str, split: str, record: int, reason: str) -> None:
  """Adds a line on a damaged record to this process's file of them."""
  line = {'split': split, 'record': record, 'reason': reason}
  _append(workdir, f'skipped_{jax.process_index()}.jsonl', line)


class DamagedRecords:
  """The damaged records of a split, over all processes and launches.

  Each process has a file of those that it met first, which the others read.
  """

  def __init__(self, workdir: str, split: str):
    self._workdir = workdir
    self._split = split
    self._known: set[int] | None = None  # Read when the first one is met.

  def add(self, record: int, reason: str) -> int:
    """Records one, unless it is on record; returns how many there are."""
    if self._known is None or jax.process_count() > 1:
      on_record = read_skipped(self._workdir)
      self._known = {x for split, x in on_record if split == self._split}
    if record not in self._known:
      self._known.add(record)
      record_skipped(self._workdir, self._split, record, reason)
      storage.flush()  # Damaged records are few, and the others count them.
    return len(self)

  def __len__(self) -> int:
    """How many were on record at the last look."""
    return len(self._known or ())


def read_skipped(workdir: str) -> dict[tuple[str, int], str]:
  """Why records were skipped, by split and index, in all launches."""
  skipped = {}
  for path in sorted(storage.path(workdir).glob('skipped_*.jsonl')):
    for line in read_records(workdir, path.name):
      skipped[line['split'], line['record']] = line['reason']
  return skipped


def record_skipped_step(workdir: str, step: int, reason: str) -> None:
  """Adds a line on a step that changed nothing, as it was not finite."""
  if jax.process_index() == 0:
    _append(workdir, SKIPPED_STEPS, {'step': step, 'reason': reason})


def read_skipped_steps(workdir: str) -> dict[int, str]:
  """Why steps changed nothing, in all launches."""
  if not (storage.path(workdir) / SKIPPED_STEPS).exists():
    return {}
  lines = read_records(workdir, SKIPPED_STEPS)
  return {line['step']: line['reason'] for line in lines}


def record_ending(workdir: str, reason: str) -> None:
  """Adds a line on how a launch ended: `FINISHED`, or what stopped it."""
  if jax.process_index() == 0:
    try:
      _append(workdir, ENDINGS, {'reason': reason})
      storage.flush()
    except OSError as error:  # Which may be what ended it.
      log.warning('%s', error)


def record_launch(
  workdir: str, config: Any, start_step: int, class_names: Sequence[str]
) -> None:
  """Stores the resolved config, and a line on this launch: what ran where."""
  if jax.process_index() != 0:
    return
  text = json.dumps(config.to_dict(), indent=1, default=str) + '\n'
  names = json.dumps(list(class_names), indent=0) + '\n'
  write_files(workdir, {CONFIG: text, CLASSES: names})
  launch = {
    'start_step': start_step,
    'command': sys.argv,
    'commit': commit(),
    'python': sys.version.split()[0],
    'packages': {p: importlib.metadata.version(p) for p in PACKAGES},
    'devices': [d.device_kind for d in jax.devices()],
    'processes': jax.process_count(),
  }
  _append(workdir, LAUNCHES, launch)
  storage.flush()


def commit() -> str:
  """The checkout's commit, marked if files differ from it."""
  directory = epath.Path(__file__).parent
  try:
    return subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=40'],
      cwd=directory,
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return 'unknown: not a git checkout'
