"""Runs to be tortured: what they are, how they are launched and compared."""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from experiments import saved, telemetry
from experiments.benchmarks.audioset import preparation
from experiments.benchmarks.audioset import standin as clips
from experiments.benchmarks.imagenet import standin as images
from experiments.benchmarks.modelnet40 import preparation as shapes
from experiments.benchmarks.modelnet40 import standin as solids
from tests.torture import emulator
from tests.torture.victim import Settings

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 900.0  # Seconds: a run that takes longer stands still.
# Runs in a row that end before they are disturbed. Chance alone makes one or
# two; more mean that what was aimed at never happens.
MOST_IDLE = 5
# Little, but all that there is to go wrong: dropout, workers, augmentation.
TINY = (
  *('model.num_latents=8', 'model.latent_channels=16'),
  *('model.num_self_attends=1', 'model.self_attend_heads=2'),
  *('model.dropout_rate=0.1', 'data.num_workers=1'),
  *('train.steps=40', 'train.log_every=1'),
  *('train.checkpoint_every=4', 'train.eval_every=10'),
)


@dataclasses.dataclass(frozen=True)
class Case:
  """A training, of one process or several on this machine."""

  name: str
  config: str
  settings: tuple[str, ...] = ()  # KEY=VALUE
  processes: int = 1
  devices: int = 1  # Of each process.

  def arguments(self, workdir: str) -> list[str]:
    return [
      f'--config=configs/{self.config}',
      f'--workdir={workdir}',
      *(f'--config.{setting}' for setting in self.settings),
    ]


def image_case(folder: str) -> Case:
  """ImageNet's stand-in, with RandAugment, mixup and CutMix."""
  data = os.path.join(folder, 'images')
  if not os.path.exists(data):
    images.generate(data, 96, 24, seed=0)
  own = (f'data.dir={data}/tfds', 'task.num_train=96', 'task.num_eval=24')
  return Case('images', 'imagenet.py:tiny', (*own, *TINY))


def clip_case(folder: str) -> Case:
  """AudioSet's stand-in: video and sound, dropped and masked now and then."""
  data = os.path.join(folder, 'events')
  if not os.path.exists(data):
    drawn = f'{data}-drawn'
    sizes = dict.fromkeys(clips.SIZES, 24)
    clips.generate(drawn, os.cpu_count() or 1, 0, sizes)
    preparation.prepare(f'{drawn}/clips', f'{drawn}/csv', data, 2)
  own = (
    *(f'data.dir={data}', 'task.num_train=48', 'task.num_eval=24'),
    *('task.num_eval_windows=2', 'task.image_size=16', 'task.num_bands=3'),
    *('train.batch_size=8', 'eval.batch_size=8'),
  )
  return Case('clips', 'audioset.py:events_av', (*own, *TINY))


def point_case(folder: str) -> Case:
  """Rotated solids."""
  data = os.path.join(folder, 'solids')
  if not os.path.exists(data):
    solids.generate(f'{data}.zip')
    shapes.prepare('solids', f'{data}.zip', data)
  own = (f'data.dir={data}', 'task.num_bands=3', 'train.batch_size=8')
  # There are many to evaluate.
  settings = (*own, *TINY, 'train.eval_every=20')
  return Case('points', 'modelnet40.py:solids', settings)


def digit_case(processes: int = 1, devices: int = 1) -> Case:
  """Digits, which need no data, in one process or several."""
  own = ('train.batch_size=48', 'eval.batch_size=48')
  return Case('digits', 'digits.py:smoke', (*own, *TINY), processes, devices)


class Launch:
  """All processes of one launch of a case; ended with the context."""

  def __init__(
    self,
    case: Case,
    workdir: str,
    log: str,
    victims: dict[int, dict[str, Any]] | None = None,
    settings: Sequence[str] = (),
    environment: dict[str, str] | None = None,
  ):
    """Starts them.

    Args:
      case: what to train.
      workdir: the run's.
      log: what its processes tell goes to LOG.RANK.jsonl, what they say to
        LOG.RANK.txt.
      victims: more of `victim.Settings`, by rank.
      settings: of the config, beside the case's.
      environment: variables beside this process's.
    """
    self.log = log
    host, port = emulator.free_address()
    self.told = [len(told(log, rank)) for rank in range(case.processes)]
    self.processes = []
    for rank in range(case.processes):
      victim = Settings(f'{log}.{rank}.jsonl', **(victims or {}).get(rank, {}))
      joining = [
        *(f'--coordinator={host}:{port}', f'--num_processes={case.processes}'),
        f'--process_id={rank}',
      ]
      with open(f'{log}.{rank}.txt', 'a') as said:
        self.processes.append(
          subprocess.Popen(
            [
              *(sys.executable, '-m', 'tests.torture.victim'),
              json.dumps(dataclasses.asdict(victim)),
              *case.arguments(workdir),
              *(f'--config.{setting}' for setting in settings),
              *(joining if case.processes > 1 else []),
            ],
            cwd=ROOT,
            env=os.environ
            | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(case.devices)}
            | (environment or {}),
            stdout=said,
            stderr=said,
          )
        )

  def __enter__(self) -> 'Launch':
    return self

  def __exit__(self, *error: object) -> None:
    for process in self.processes:
      if process.poll() is None:
        process.kill()
      process.wait()

  def is_running(self) -> bool:
    return all(process.poll() is None for process in self.processes)

  def lines(self, rank: int = 0) -> list[dict[str, Any]]:
    """What a process of this launch has told."""
    return told(self.log, rank)[self.told[rank] :]

  def wait_for(
    self,
    is_sought: Callable[[dict[str, Any]], bool],
    number: int = 1,
    rank: int = 0,
  ) -> bool:
    """Until so many lines are as sought; False: a process ended before."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
      if sum(map(is_sought, self.lines(rank))) >= number:
        return True
      if not self.is_running():
        return False
      time.sleep(0.005)
    return False

  def wait(self) -> list[int | None]:
    """The statuses that its processes end with; None: one stands still."""
    deadline = time.monotonic() + TIMEOUT
    statuses: list[int | None] = []
    for process in self.processes:
      try:
        left = max(deadline - time.monotonic(), 0.1)
        statuses.append(process.wait(left))
      except subprocess.TimeoutExpired:
        statuses.append(None)
    return statuses


def told(log: str, rank: int) -> list[dict[str, Any]]:
  """What a process told in all launches; kills may cut a line off."""
  try:
    lines = pathlib.Path(f'{log}.{rank}.jsonl').read_text().splitlines()
  except FileNotFoundError:
    return []
  found = []
  for line in lines:
    try:
      found.append(json.loads(line))
    except ValueError:
      # Cut off, and perhaps gone on with by the next launch.
      continue
  return found


@dataclasses.dataclass(frozen=True)
class Trace:
  """What two runs of a case have in common, if nothing was lost."""

  losses: dict[tuple[int, str], Any]  # All recorded, by step and split.
  batches: list[dict[int, set[str]]]  # Digests by rank and step.
  state: str  # The last state's digest.

  def difference(self, other: 'Trace') -> str:
    """'' if there is none."""
    for rank, (ours, theirs) in enumerate(
      zip(self.batches, other.batches, strict=True)
    ):
      for step in sorted(ours.keys() | theirs.keys()):
        if ours.get(step) != theirs.get(step):
          return f'the batch of step {step} at rank {rank} is another'
    for key in sorted(self.losses.keys() | other.losses.keys()):
      if self.losses.get(key) != other.losses.get(key):
        return f'what is recorded of {key} is something else'
    return '' if self.state == other.state else 'the last state is another'


def trace(case: Case, workdir: str, log: str) -> Trace:
  """What a run left that has come to its end."""
  losses: dict[tuple[int, str], Any] = {}
  for record in telemetry.read_metrics(workdir):
    key = record['step'], record['split']
    if key in losses:
      raise ValueError(f'{key} is recorded twice in {workdir}.')
    losses[key] = {k: x for k, x in record.items() if k != 'time'}
  batches: list[dict[int, set[str]]] = []
  for rank in range(case.processes):
    batches.append({})
    for line in told(log, rank):
      if 'batch' in line:
        batches[-1].setdefault(line['step'], set()).add(line['batch'])
  run = saved.open_run(workdir)
  state = jax.device_get(saved.restore(run, workdir))
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    digest.update(repr(path).encode() + np.asarray(leaf).tobytes())
  return Trace(losses, batches, digest.hexdigest())


def finish(
  case: Case,
  workdir: str,
  log: str,
  environment: dict[str, str] | None = None,
) -> Trace:
  """Lets a run come to its end, undisturbed.

  Raises:
    RuntimeError: if it cannot.
  """
  with Launch(case, workdir, log, environment=environment) as launch:
    statuses = launch.wait()
  if any(statuses):
    raise RuntimeError(
      f'{workdir} cannot go on: statuses {statuses}, see {log}.*.txt.'
    )
  return trace(case, workdir, log)


def scratch(folder: str, name: str) -> str:
  """A new folder in another, for a run and its logs."""
  return tempfile.mkdtemp(prefix=f'{name}-', dir=folder)
