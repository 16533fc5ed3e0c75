"""Records that a run leaves: metrics, launches, endings, what was skipped.

An object in a store is written whole: to append to it, all of it is read and
written again. So lines for a store are kept in memory until `flush`, and the
caller decides when that is.
"""

from collections.abc import Mapping, Sequence
import datetime
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
from typing import Any

from etils import epath
import jax

from experiments import storage

log = logging.getLogger(__name__)

METRICS = 'metrics.jsonl'
CONFIG = 'config.json'
CLASSES = 'classes.json'
LAUNCHES = 'launches.jsonl'
ENDINGS = 'endings.jsonl'  # Of launches that were not killed.
SKIPPED_STEPS = 'nonfinite_steps.jsonl'
FINISHED = 'finished'
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
_pending: dict[epath.Path, list[str]] = {}  # Appended, and not yet written.


def append(path: epath.Path, text: str) -> None:
  """Adds to a file: at once on a disk, with the next `flush` in a store.

  Raises:
    OSError: as `storage.writing`; for a store, `flush` raises it.
  """
  if storage.is_local(path):
    with storage.writing(path), open(path, 'ab+') as file:
      if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read() != b'\n':
          text = f'\n{text}'  # The last line was cut off.
      file.write(text.encode())
  else:
    _pending.setdefault(path, []).append(text)


def flush() -> None:
  """Writes what has been appended to objects in stores."""
  for path, texts in list(_pending.items()):
    there = path.read_text() if path.exists() else ''
    storage.write(path, there + ''.join(texts))
    _pending.pop(path, None)  # The watchdog's thread may flush, too.


def read_metrics(workdir: str) -> list[dict[str, Any]]:
  """Returns a run's metrics, in the order of the steps."""
  return read_records(workdir, METRICS)


def forget_metrics(workdir: str, after: int) -> None:
  """Removes the metrics after the step that a launch goes on from."""
  path = storage.path(workdir) / METRICS
  if path.exists():
    records = [r for r in read_metrics(workdir) if r['step'] <= after]
    storage.write(path, ''.join(json.dumps(r) + '\n' for r in records))
  _pending.pop(path, None)


def read_records(workdir: str, name: str) -> list[dict[str, Any]]:
  """Returns a file's lines of JSON, without one that a kill cut off.

  A file that does not exist has none.
  """
  path = storage.path(workdir) / name
  text = path.read_text() if path.exists() else ''
  records = []
  for line in text.splitlines():
    try:
      records.append(json.loads(line))
    except ValueError:
      log.warning('%s has a broken line, ignored: %r', name, line[:80])
  return records


def write_files(workdir: str, files: Mapping[str, str | bytes]) -> None:
  """Writes files by name in process 0, each whole or not at all."""
  flush()  # In all processes: each has records of what it skipped.
  if jax.process_index() != 0:
    return
  for name, content in files.items():
    storage.write(storage.path(workdir) / name, content)


def _append_record(workdir: str, name: str, record: Mapping[str, Any]) -> None:
  time = datetime.datetime.now(datetime.UTC).isoformat()
  line = json.dumps({'time': time, **record}) + '\n'
  append(storage.path(workdir) / name, line)


def record_skipped(workdir: str, split: str, record: int, reason: str) -> None:
  """Adds a line on a damaged record to this process's file."""
  line = {'split': split, 'record': record, 'reason': reason}
  _append_record(workdir, f'skipped_{jax.process_index()}.jsonl', line)


class DamagedRecords:
  """Damaged records of one split, over all processes and launches.

  Each process has a file of the ones that it met first; the others read it.
  """

  def __init__(self, workdir: str, split: str):
    self._workdir = workdir
    self._split = split
    self._known: set[int] | None = None  # Read when the first one is met.

  def add(self, record: int, reason: str) -> int:
    """Records a damaged record, if new; returns how many are known."""
    if self._known is None or jax.process_count() > 1:
      on_record = read_skipped(self._workdir)
      self._known = {x for split, x in on_record if split == self._split}
    if record not in self._known:
      self._known.add(record)
      record_skipped(self._workdir, self._split, record, reason)
      flush()  # Damaged records are few, and the others count them.
    return len(self)

  def __len__(self) -> int:
    """Returns how many were known at the last `add`."""
    return len(self._known or ())


def read_skipped(workdir: str) -> dict[tuple[str, int], str]:
  """Returns why records were skipped in all launches, by split and index."""
  skipped = {}
  for path in sorted(storage.path(workdir).glob('skipped_*.jsonl')):
    for line in read_records(workdir, path.name):
      skipped[line['split'], line['record']] = line['reason']
  return skipped


def record_skipped_step(workdir: str, step: int, reason: str) -> None:
  """Adds a line on a step that changed nothing because it was not finite."""
  if jax.process_index() == 0:
    _append_record(workdir, SKIPPED_STEPS, {'step': step, 'reason': reason})


def read_skipped_steps(workdir: str) -> dict[int, str]:
  """Returns why steps changed nothing in all launches, by step."""
  lines = read_records(workdir, SKIPPED_STEPS)
  return {line['step']: line['reason'] for line in lines}


def record_ending(workdir: str, reason: str) -> None:
  """Adds a line on how a launch ended: `FINISHED`, or what stopped it."""
  if jax.process_index() == 0:
    try:
      _append_record(workdir, ENDINGS, {'reason': reason})
      flush()
    except OSError as error:  # The same error may have ended the launch.
      log.warning('%s', error)


def record_launch(
  workdir: str, config: Any, start_step: int, class_names: Sequence[str]
) -> None:
  """Stores the config and the classes, and adds a line on this launch."""
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
  _append_record(workdir, LAUNCHES, launch)
  flush()


def commit() -> str:
  """Returns the checkout's commit, marked if files differ from it."""
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
