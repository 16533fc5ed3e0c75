"""Kills of AudioSet's preparation, while shards of it run side by side.

A stand-in is prepared in one go, and then in shards that are killed, at random
moments of what they have done, and started again: alone or with the processes
that decode for them, and now and then twice, as a scheduler's requeue may be.
"""

import contextlib
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from experiments.benchmarks.audioset import preparation, source, standin
from tests.torture.outcome import Outcome

SHARDS = 4
CLIPS_PER_FILE = 3
MAX_CLIPS = 90
ROOT = pathlib.Path(__file__).parents[2]


class _Shard:
  """A share of the work, in a process or, for a while, in two."""

  def __init__(self, command: list[str], log: pathlib.Path):
    self.log = log
    self._command = command
    self._processes: list[subprocess.Popen] = []
    self.start()

  def start(self) -> None:
    with open(self.log, 'a') as log:
      self._processes.append(
        subprocess.Popen(
          self._command,
          cwd=ROOT,
          stdout=log,
          stderr=log,
          start_new_session=True,  # To be killed with all of its own.
        )
      )

  def is_running(self) -> bool:
    return any(process.poll() is None for process in self._processes)

  def kill(self, rng: random.Random) -> bool:
    """Kills one of its processes; whether that was still running."""
    process = rng.choice([x for x in self._processes if x.poll() is None])
    if rng.random() < 0.5:
      os.killpg(process.pid, signal.SIGKILL)
    else:  # What decodes for it is left behind, and goes on for a while.
      process.kill()
    if process.wait() != -signal.SIGKILL:
      return False
    self._processes.remove(process)
    return True

  def wait(self) -> bool:
    """Whether all that were not killed end well."""
    return not any([process.wait() for process in self._processes])

  def stop(self) -> None:
    for process in self._processes:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()


def run(seed: int, count: int, folder: str) -> Outcome:
  """Prepares a stand-in in 4 shards with some kills; compares all bytes.

  Args:
    seed: of the clips and of the kills.
    count: of kills. Where the shards come to their end before, they begin anew.
    folder: to work in; it exists, and has nothing in it.

  Returns:
    What they came to. If a shard fails that was not killed, or if one byte
    differs from the data set that was prepared in one go, all kills since the
    beginning are lost.
  """
  begun = time.monotonic()
  rng = random.Random(seed)
  place = pathlib.Path(folder)
  clips, csv = (str(place / 'events' / name) for name in ('clips', 'csv'))
  size = min(8 * count, MAX_CLIPS) // len(standin.SIZES)
  sizes = {name: size for name in standin.SIZES}
  cpus = os.cpu_count() or 1
  standin.generate(str(place / 'events'), cpus, seed, sizes)
  damaged = min(pathlib.Path(clips).iterdir())  # To be skipped.
  damaged.write_bytes(damaged.read_bytes()[:99])
  whole = str(place / 'whole')
  preparation.prepare(clips, csv, whole, cpus, clips_per_file=CLIPS_PER_FILE)
  expected = _sums(place / 'whole')
  tried = lost = rounds = 0
  note = ''
  while tried < count:
    sharded = place / f'sharded-{rounds}'
    sharded.mkdir()
    command = [
      *(sys.executable, '-m', 'scripts.prepare_audioset', '--processes=1'),
      *(f'--clips={clips}', f'--csv={csv}', f'--data_dir={sharded}'),
      f'--clips_per_file={CLIPS_PER_FILE}',
    ]
    kills, problem = _round(command, sharded, rng, count - tried)
    if not problem and (found := _sums(sharded)) != expected:
      different = sorted(dict(found.items() ^ expected.items()))
      problem = f'{sharded} and {whole} differ: {different}'
    tried += kills
    lost += kills if problem else 0
    note = note or problem
    rounds += 1
  return Outcome(
    test=f'kills of {SHARDS} shards that prepare AudioSet',
    tried=tried,
    survived=tried - lost,
    lost=lost,
    note=note
    or f'{rounds} × {len(expected)} files, the same bytes as in one go,'
    f' in {time.monotonic() - begun:.0f} s',
  )


def _round(
  command: list[str], data_dir: pathlib.Path, rng: random.Random, count: int
) -> tuple[int, str]:
  """Prepares with at most so many kills: how many, and what went wrong."""
  folder = pathlib.Path(source.incomplete_directory(str(data_dir)))
  shards: list[_Shard] = []
  try:
    for i in range(SHARDS):
      log = data_dir.with_name(f'{data_dir.name}-{i}.log')
      shards.append(_Shard([*command, f'--shard={i}/{SHARDS}'], log))
    kills = _kill(shards, rng, count, folder)
    failed = [str(shard.log) for shard in shards if not shard.wait()]
  finally:
    for shard in shards:
      shard.stop()
  if failed:
    return kills, f'failed, as their logs say: {failed}'
  last = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  return kills, last.stderr[-1000:] if last.returncode else ''


def _kill(
  shards: list[_Shard], rng: random.Random, count: int, folder: pathlib.Path
) -> int:
  """Kills shards, each time after some more files have come to be there."""
  kills = 0
  while kills < count:
    seen, more = _names(folder), rng.randint(1, 10)
    while len(_names(folder) - seen) < more:
      if not any(shard.is_running() for shard in shards):
        return kills
      time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.02))
    running = [shard for shard in shards if shard.is_running()]
    if running and (shard := rng.choice(running)).kill(rng):
      kills += 1
      for _ in range(rng.choice([1, 1, 2])):
        shard.start()
  return kills


def _names(folder: pathlib.Path) -> set[str]:
  return {name for _, _, names in os.walk(folder) for name in names}


def _sums(folder: pathlib.Path) -> dict[str, str]:
  """SHA-256 of each file, by its path in a folder."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob('*')
    if path.is_file()
  }
