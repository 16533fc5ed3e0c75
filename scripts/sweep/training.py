"""A run's process, and the device that it has to itself."""

from collections.abc import Iterator
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import subprocess
import sys
import time

from scripts.sweep.plan import Run

OUTPUT = 'output.txt'  # A run's process writes here, in the run's directory.


@dataclasses.dataclass(frozen=True)
class Device:
  """The device of one run: a core 'cpu:N', a GPU 'gpu:N' or a chip 'tpu:N'.

  '' stands for all devices.
  """

  name: str = ''

  def __post_init__(self) -> None:
    """Raises ValueError for a bad name, or for a core that does not exist."""
    if self.name and not re.fullmatch(r'(cpu|gpu|tpu):\d+', self.name):
      raise ValueError(
        f'--devices: {self.name!r} is not cpu:N, gpu:N or tpu:N.'
      )
    if self._kind != 'cpu':
      return
    if not hasattr(os, 'sched_setaffinity'):
      raise ValueError('--devices: only Linux can give a process one core.')
    if self._number not in os.sched_getaffinity(0):
      raise ValueError(
        f'--devices: there is no {self.name}; this process may use the cores'
        f' {sorted(os.sched_getaffinity(0))}.'
      )

  @property
  def _kind(self) -> str:
    return self.name.partition(':')[0]

  @property
  def _number(self) -> int:
    return int(self.name.partition(':')[2])

  def environment(self) -> dict[str, str]:
    """Environment variables that leave a process this device alone."""
    number = self.name.partition(':')[2]
    return {
      '': {},
      'cpu': {'JAX_PLATFORMS': 'cpu'},
      'gpu': {'CUDA_VISIBLE_DEVICES': number},
      'tpu': {
        'TPU_VISIBLE_CHIPS': number,
        'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1',
        'TPU_PROCESS_BOUNDS': '1,1,1',
      },
    }[self._kind]

  @contextlib.contextmanager
  def inherited(self) -> Iterator[None]:
    """Processes started inside run on this core, if the device is one."""
    if self._kind != 'cpu':
      yield
      return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {self._number})
    try:
      yield
    finally:
      os.sched_setaffinity(0, before)


def command_of(run: Run, root: str) -> list[str]:
  """The command that trains a run."""
  variant = run.variant
  suffix = f':{variant.name}' if variant.name else ''
  # Runs share a cache, so that equal programs are compiled once.
  cache = str(pathlib.Path(root).absolute() / 'compiled')
  settings = {'train.compilation_cache': cache, **run.settings()}
  return [
    *(sys.executable, '-m', 'experiments.run'),
    f'--config=configs/{variant.config_name}.py{suffix}',
    f'--workdir={run.workdir(root)}',
    *(f'--config.{key}={value}' for key, value in settings.items()),
  ]


class Training:
  """A run's process, which goes on if the sweep's process dies.

  It holds a lock. If a process of an earlier sweep still holds the lock, the
  sweep starts no other one and waits for that.
  """

  def __init__(self, run: Run, root: str, device: Device):
    self.run = run
    self.begin = time.monotonic()
    self.process: subprocess.Popen | None = None
    self._folder = pathlib.Path(run.workdir(root))
    self._folder.mkdir(parents=True, exist_ok=True)
    with self._locked() as lock:
      if lock is None:
        return
      with open(self._folder / OUTPUT, 'ab') as output, device.inherited():
        self.process = subprocess.Popen(
          command_of(run, root),
          stdin=subprocess.DEVNULL,
          stdout=output,
          stderr=output,
          env={**os.environ, **device.environment()},
          pass_fds=(lock,),
          start_new_session=True,  # Ctrl-C goes to the sweep, which stops it.
        )

  @contextlib.contextmanager
  def _locked(self) -> Iterator[int | None]:
    """Yields the lock's descriptor; None if another process holds it."""
    with open(self._folder / 'lock', 'w') as f:
      try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        yield None
        return
      yield f.fileno()

  def has_ended(self) -> bool:
    if self.process is not None:
      return self.process.poll() is not None
    with self._locked() as lock:
      return lock is not None

  def last_words(self) -> str:
    """The last line of the process's output, and its status."""
    assert self.process is not None
    text = (self._folder / OUTPUT).read_text(errors='replace')
    lines = text.strip().splitlines() or ['it said nothing']
    return f'{lines[-1].strip()} (status {self.process.returncode})'
