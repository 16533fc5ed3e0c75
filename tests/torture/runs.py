"""Runs that are launched, disturbed by faults, and compared."""

from collections.abc import Callable, Iterable, Sequence
import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Self

import jax
import numpy as np

from experiments import saved, telemetry
from tests.torture import emulator
from tests.torture.cases import Case
from tests.torture.outcome import Outcome
from tests.torture.victim import ACTIVITIES, Settings

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 900.0  # Seconds: a process that takes longer hangs.
# Runs in a row that may end before a fault. Chance alone makes one or two; more
# mean that the moment of the fault never comes.
MOST_IDLE = 5
Line = dict[str, Any]  # What a process has logged, see `victim`.


class Processes:
  """Processes that are killed, with all that they started, by the context."""

  def __init__(self) -> None:
    self.started: list[subprocess.Popen] = []

  def start(
    self, command: Sequence[str], log: str, **environment: str
  ) -> subprocess.Popen:
    """Starts `python -m COMMAND`; its output is added to the log."""
    with open(log, 'a') as file:
      process = subprocess.Popen(
        [sys.executable, '-m', *command],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=file,
        stderr=file,
        start_new_session=True,  # To be killed with all that it starts.
      )
    self.started.append(process)
    return process

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    for process in self.started:
      kill_group(process)


def kill_group(process: subprocess.Popen) -> None:
  """Kills a process of `Processes`, and what it started."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


class Run:
  """A run in a new folder, which is launched until it is over."""

  def __init__(
    self, case: Case, folder: str, store: emulator.Store | None = None
  ):
    """Makes a new folder for logs and, without a store, for the workdir."""
    self.case = case
    self.place = tempfile.mkdtemp(prefix=f'{case.name}-', dir=folder)
    self.workdir = f'{self.place}/run'
    if store is not None:
      self.workdir = store.url(os.path.basename(self.place))
      os.environ.update(store.environment)
    self.launches = 0
    self.is_over = False

  def launch(
    self, victims: dict[int, Line] | None = None, settings: Sequence[str] = ()
  ) -> 'Launch':
    """Launches all processes.

    Victims are fields of `victim.Settings` by rank. Settings are KEY=VALUE of
    the config, beside the case's.
    """
    self.launches += 1
    return Launch(self, victims or {}, settings)

  def finish(self) -> 'Trace':
    """Lets the run come to its end, undisturbed, and returns what it left.

    Raises RuntimeError if it cannot.
    """
    if not self.is_over:
      with self.launch() as launch:
        statuses = launch.wait()
      if not self.is_over:
        raise RuntimeError(
          f'The run cannot go on: statuses {statuses}, see {launch.log}.*.txt.'
        )
    losses: dict[tuple[int, str], Any] = {}
    for record in telemetry.read_metrics(self.workdir):
      key = record['step'], record['split']
      if key in losses:
        raise ValueError(f'{key} is recorded twice in {self.workdir}.')
      losses[key] = {k: x for k, x in record.items() if k != 'time'}
    batches: list[dict[int, set[str]]] = []
    for rank in range(self.case.processes):
      batches.append({})
      for line in self.lines(rank):
        if line['moment'] == 'batch':
          batches[-1].setdefault(line['step'], set()).add(line['what'])
    state = jax.device_get(
      saved.restore(saved.open_run(self.workdir), self.workdir)
    )
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
      digest.update(repr(path).encode() + np.asarray(leaf).tobytes())
    return Trace(losses, batches, digest.hexdigest())

  def lines(self, rank: int = 0) -> list[Line]:
    """Returns what a process has logged in all launches."""
    logs = glob.glob(f'{glob.escape(self.place)}/launch-*.{rank}.jsonl')
    return [line for log in sorted(logs) for line in read_lines(log)]


class Launch(Processes):
  """The processes of one launch of a run."""

  def __init__(
    self, run: Run, victims: dict[int, Line], settings: Sequence[str]
  ):
    super().__init__()
    case = run.case
    self.log = f'{run.place}/launch-{run.launches:03}'
    self._run = run
    host, port = emulator.free_address()
    for rank in range(case.processes):
      victim = Settings(f'{self.log}.{rank}.jsonl', **victims.get(rank, {}))
      joining = (
        *(f'--coordinator={host}:{port}', f'--num_processes={case.processes}'),
        f'--process_id={rank}',
      )
      self.start(
        [
          *('tests.torture.victim', json.dumps(dataclasses.asdict(victim))),
          *(f'--config=configs/{case.config}', f'--workdir={run.workdir}'),
          *(f'--config.{setting}' for setting in (*case.settings, *settings)),
          *(joining if case.processes > 1 else ()),
        ],
        f'{self.log}.{rank}.txt',
        JAX_PLATFORMS='cpu',
        JAX_NUM_CPU_DEVICES=str(case.devices),
      )

  def wait(self, ranks: Iterable[int] | None = None) -> list[int | None]:
    """Waits for some processes, by default all; returns their exit statuses.

    The status of a process that hangs is None.
    """
    deadline = time.monotonic() + TIMEOUT
    statuses: list[int | None] = []
    for rank in range(len(self.started)) if ranks is None else ranks:
      try:
        left = max(deadline - time.monotonic(), 0.1)
        statuses.append(self.started[rank].wait(left))
      except subprocess.TimeoutExpired:
        statuses.append(None)
    self._run.is_over = set(statuses) == {0}
    return statuses

  def lines(self, rank: int = 0) -> list[Line]:
    """Returns what a process of this launch has logged."""
    return read_lines(f'{self.log}.{rank}.jsonl')

  def fault_time(self, rank: int = 0) -> float | None:
    """Returns when a victim caused its fault; None if it has not."""
    times = (x['time'] for x in self.lines(rank) if x['moment'] == 'fault')
    return next(times, None)


def read_lines(log: str) -> list[Line]:
  """Returns what a process has logged; a kill may cut off the last line."""
  path = pathlib.Path(log)
  text = path.read_text() if path.exists() else ''
  return [json.loads(line) for line in text.split('\n')[:-1]]


def activities(lines: Iterable[Line]) -> list[Line]:
  """Returns what the main thread has logged of what it does."""
  moments = {*ACTIVITIES.values(), 'other'}
  return [line for line in lines if line['moment'] in moments]


@dataclasses.dataclass(frozen=True)
class Trace:
  """Results that two runs of a case share if nothing was lost."""

  losses: dict[tuple[int, str], Any]  # All that was recorded by step and split.
  batches: list[dict[int, set[str]]]  # Digests by rank and step.
  state: str  # Digest of the last state.

  def difference(self, other: 'Trace') -> str:
    """Says how another trace differs; '' if it does not."""
    for rank, (ours, theirs) in enumerate(
      zip(self.batches, other.batches, strict=True)
    ):
      for step in sorted(ours.keys() | theirs.keys()):
        if ours.get(step) != theirs.get(step):
          return f'the batches of step {step} at rank {rank} differ'
    for key in sorted(self.losses.keys() | other.losses.keys()):
      if self.losses.get(key) != other.losses.get(key):
        return f'the records of {key} differ'
    return '' if self.state == other.state else 'the last states differ'


# Launches a run and disturbs it, by one of the given kinds of faults. Returns
# the kinds of the faults that happened; none if the run ended before. Raises
# RuntimeError if its processes do not end as they should.
Disturb = Callable[[Run, Sequence[str]], list[str]]


def disturb(
  name: str,
  case: Case,
  expected: Trace,
  wanted: dict[str, int],
  disturb_once: Disturb,
  folder: str,
  store: emulator.Store | None = None,
) -> list[Outcome]:
  """Disturbs runs until each kind of fault has happened often enough.

  Each run is disturbed again and again until it is over; then it has to be as
  expected, like a run that was left alone, or all its faults are lost and it
  stays in the folder. `wanted` is the number of faults by kind. The workdirs
  are in the store, or without one in the folder.
  """
  outcomes = {kind: Outcome(f'{name}: {kind}') for kind in wanted}
  idle = 0  # Runs in a row without a fault.
  happened: list[str] = []  # Faults of the present run.
  missing = lambda: [
    kind
    for kind, count in wanted.items()
    if outcomes[kind].tried + happened.count(kind) < count
  ]
  while missing():
    run = Run(case, folder, store)
    try:
      while (kinds := missing()) and not run.is_over:
        happened += disturb_once(run, kinds)
      problem = run.finish().difference(expected)
    except (RuntimeError, ValueError, OSError) as error:
      problem = str(error)
    idle = 0 if happened else idle + 1
    if idle >= MOST_IDLE:
      problem = problem or f'{idle} runs in a row end before {kinds[0]!r}'
    if problem:
      happened = happened or kinds[:1]
      problem = f'{run.place}: {problem}'
    else:
      shutil.rmtree(run.place)
    while happened:
      outcomes[happened.pop()].add(problem)
  return list(outcomes.values())
