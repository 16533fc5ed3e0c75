"""The history of a run, from its directory: launches, metrics, endings."""

import bisect
from collections.abc import Sequence
import csv
import dataclasses
import datetime
import io
import itertools
import math
import pathlib
import statistics
from typing import Any
import zipfile

from ml_collections import ConfigDict
import numpy as np

from experiments import benchmarks, experiment, saved, storage, telemetry

Record = dict[str, Any]
# What the time since the first launch was spent on.
TRAINING, EVALUATION, STARTING, LOST = (
  'training',
  'evaluation',
  'starting up',
  'lost to stops',
)


@dataclasses.dataclass(frozen=True)
class Status:
  """The state of a run."""

  kind: str  # 'finished', 'stopped', 'failed' or 'silent'.
  text: str


@dataclasses.dataclass(frozen=True)
class History:
  """The history of one run."""

  workdir: str
  config: ConfigDict
  launches: list[Record]
  endings: list[Record]
  metrics: list[Record]  # Without steps that were redone, in order.
  skipped: dict[tuple[str, int], str]  # Reasons by split and index.
  skipped_steps: dict[int, str]  # Reasons by step.
  predictions: dict[str, dict[str, np.ndarray]]  # By split.
  average_precision: list[Record]  # A row per class; empty without mAP.
  total_steps: int | None  # None if the config is of another version.
  problems: list[str]  # Files that cannot be read, and why.

  @property
  def name(self) -> str:
    return pathlib.PurePath(self.workdir).name or self.workdir

  @property
  def last_step(self) -> int:
    """The last step on record; 0 if there is none."""
    return max((r['step'] for r in self.metrics), default=0)

  def of_split(self, split: str) -> list[Record]:
    return [r for r in self.metrics if r['split'] == split]

  @property
  def eval_splits(self) -> list[str]:
    splits = dict.fromkeys(r['split'] for r in self.metrics)
    return [split for split in splits if split != 'train']

  def status(self) -> Status:
    """Returns the state that the last launch left."""
    if not self.launches:
      return Status('silent', 'It has not been launched yet.')
    reason = self.reasons()[-1]
    where = f'step {self.last_step}'
    if self.total_steps:
      where += f' of {self.total_steps}'
    if reason is None:
      signs = [iso(r['time']) for r in self.metrics if 'time' in r]
      sign = max([self.launches[-1]['time'], *signs])
      return Status(
        'silent',
        f'Still running, or killed: its last sign of life was {where}, at'
        f' {readable(sign)}.',
      )
    if reason == telemetry.FINISHED:
      return Status('finished', f'Finished, at {where}.')
    told = reason.startswith('Told to stop')
    return Status('stopped' if told else 'failed', reason)

  def reasons(self) -> list[str | None]:
    """Returns why each launch ended; None if it left no reason."""
    begins = [launch['time'] for launch in self.launches]
    said: list[str | None] = [None] * len(begins)
    for ending in self.endings:
      launch = bisect.bisect_right(begins, ending['time']) - 1
      if launch >= 0:
        said[launch] = ending['reason']
    return said

  def time_shares(self) -> dict[str, float]:
    """Returns the seconds spent on each activity since the first launch.

    The time between the last valid record and the next launch is lost: it went
    to steps that were redone, and to waiting. Empty without any records.
    """
    records = [r for r in self.metrics if 'time' in r]
    if not records or not self.launches:
      return {}
    events: list[tuple[float, Any]] = [
      (_seconds(launch['time']), None) for launch in self.launches
    ]
    events += [(r['time'], r) for r in records]
    events.sort(key=lambda event: event[0])
    shares = dict.fromkeys((TRAINING, EVALUATION, STARTING, LOST), 0.0)
    step_time = self._step_time()
    for (since, before), (until, record) in itertools.pairwise(events):
      duration = until - since
      if record is None:
        shares[LOST] += duration
      elif record['split'] != 'train':
        shares[EVALUATION] += duration
      elif before is None:
        # The steps before a launch's first record were trained meanwhile.
        log_every = int(self.config['train'].get('log_every', 1))
        trained = min(duration, step_time * log_every)
        shares[TRAINING] += trained
        shares[STARTING] += duration - trained
      else:
        shares[TRAINING] += duration
    return shares

  def seconds_at_work(self) -> float:
    """Returns the time of all launches, without what was lost."""
    return sum(x for name, x in self.time_shares().items() if name != LOST)

  def throughput(self) -> list[tuple[int, float]]:
    """Returns (step, examples per second) between records of one launch."""
    batch = self.config['train'].get('batch_size', 0)
    return [
      (end['step'], batch * (end['step'] - start['step']) / seconds)
      for start, end, seconds in self._stretches()
    ]

  def _stretches(self) -> list[tuple[Record, Record, float]]:
    """Returns neighbouring records of one launch and the seconds between."""
    stretches = []
    starts = [_seconds(launch['time']) for launch in self.launches]
    for start, end in itertools.pairwise(self.metrics):
      # A stretch may begin at the end of an evaluation, at the same step.
      if end['split'] != 'train' or not {'time'} <= start.keys() & end.keys():
        continue
      seconds = end['time'] - start['time']
      stopped = any(start['time'] < s <= end['time'] for s in starts)
      if end['step'] > start['step'] and seconds > 0 and not stopped:
        stretches.append((start, end, seconds))
    return stretches

  def _step_time(self) -> float:
    times = [
      seconds / (end['step'] - start['step'])
      for start, end, seconds in self._stretches()
    ]
    return statistics.median(times) if times else 0.0

  def final(self) -> dict[str, Record]:
    """Returns the last evaluation of each split."""
    return {split: self.of_split(split)[-1] for split in self.eval_splits}


def read(workdir: str) -> History:
  """Reads the history of a run; files that do not exist count as empty.

  Raises:
    FileNotFoundError: if the directory is not a run's.
    ValueError: if its config cannot be read.
  """
  config = saved.read_config(workdir)
  folder = storage.path(workdir)  # It may be on a bucket.

  predictions, problems = {}, []
  for path in sorted(folder.glob('predictions_*.npz')):
    try:
      file = io.BytesIO(path.read_bytes())
      with np.load(file, allow_pickle=False) as arrays:
        predictions[path.stem.partition('_')[2]] = dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
      problems.append(f'{path.name} cannot be read: {error}')
  table = folder / 'average_precision.csv'
  text = table.read_text() if table.exists() else ''
  return History(
    workdir,
    config,
    telemetry.read_records(workdir, telemetry.LAUNCHES),
    telemetry.read_records(workdir, telemetry.ENDINGS),
    telemetry.read_metrics(workdir),
    telemetry.read_skipped(workdir),
    telemetry.read_skipped_steps(workdir),
    predictions,
    list(csv.DictReader(io.StringIO(text))),
    _total_steps(config),
    problems,
  )


def _total_steps(config: ConfigDict) -> int | None:
  try:
    return experiment.total_steps(config, benchmarks.create(**config.task))
  except (ValueError, TypeError):  # A task of another version.
    return None


def _seconds(iso: str) -> float:
  return datetime.datetime.fromisoformat(iso).timestamp()


def iso(seconds: float) -> str:
  """Returns seconds since 1970 as an ISO time in UTC, as launches have it."""
  return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def readable(iso: str) -> str:
  """Returns an ISO time as '2026-11-25 01:02 UTC'."""
  time = datetime.datetime.fromisoformat(iso).astimezone(datetime.UTC)
  return time.strftime('%Y-%m-%d %H:%M UTC')


def measured(record: Record) -> dict[str, float]:
  """Returns the metrics of a record, without its step, counts and time."""
  return {
    name: value
    for name, value in record.items()
    if isinstance(value, float) and name != 'time'
  }


def metric_names(histories: Sequence[History]) -> list[str]:
  """Returns the metrics of the evaluations, or else those of training."""
  names: dict[str, None] = {}
  for history in histories:
    splits = history.eval_splits or ['train']
    for record in history.metrics:
      if record['split'] in splits:
        names |= dict.fromkeys(measured(record))
  return list(names)


def duration(seconds: float) -> str:
  """Returns seconds as '1 h 2 min', '3 min 20 s' or '4.1 s'."""
  if not math.isfinite(seconds):
    return '–'
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest} s'
  hours, minutes = divmod(minutes, 60)
  return f'{hours} h {minutes} min'
