"""Kills of AudioSet's preparation, while shards of it run side by side.

A stand-in is prepared in one go, and then in shards that are killed, at random
moments of what they have done, and started again: alone or with the processes
that decode for them, and now and then twice, as a scheduler's requeue may be.
"""

from collections.abc import Iterator, Sequence
import hashlib
import itertools
import os
import pathlib
import random
import signal
import time

from experiments.benchmarks.audioset import preparation, source, standin
from tests.torture.outcome import Outcome, scaled
from tests.torture.runs import kill_group, Processes

KILLS = 10
SHARDS = 4
CLIPS_PER_FILE = 3
MAX_CLIPS = 90


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Prepares a stand-in in 4 shards with some kills; compares all bytes.

  If a shard fails that was not killed, or if one byte differs from the data set
  that was prepared in one go, all kills since the beginning are lost. Where the
  shards come to their end before enough kills, they begin anew.
  """
  rng = random.Random(seed)
  count = scaled(scale, KILLS)
  place = pathlib.Path(folder)
  clips, csv = (str(place / 'events' / name) for name in ('clips', 'csv'))
  size = min(8 * count, MAX_CLIPS) // len(standin.SIZES)
  sizes = dict.fromkeys(standin.SIZES, size)
  cpus = os.cpu_count() or 1
  standin.generate(str(place / 'events'), cpus, seed, sizes)
  damaged = min(pathlib.Path(clips).iterdir())  # To be skipped.
  damaged.write_bytes(damaged.read_bytes()[:99])
  whole = place / 'whole'
  preparation.prepare(
    *(clips, csv, str(whole), cpus), clips_per_file=CLIPS_PER_FILE
  )
  expected = _sums(whole)
  outcome = Outcome(f'kills of {SHARDS} shards that prepare AudioSet')
  rounds = itertools.count()  # One may end before it is killed at all.
  while outcome.tried < count:
    sharded = place / f'sharded-{next(rounds)}'
    sharded.mkdir()
    command = [
      *('scripts.prepare_audioset', '--processes=1'),
      *(f'--clips={clips}', f'--csv={csv}', f'--data_dir={sharded}'),
      f'--clips_per_file={CLIPS_PER_FILE}',
    ]
    kills, problem = _prepare(command, sharded, rng, count - outcome.tried)
    if not problem and (found := _sums(sharded)) != expected:
      different = sorted(dict(found.items() ^ expected.items()))
      problem = f'{sharded} and {whole} differ: {different}'
    outcome.add(problem, max(kills, bool(problem)))
  yield outcome


def _prepare(
  command: Sequence[str], data_dir: pathlib.Path, rng: random.Random, most: int
) -> tuple[int, str]:
  """Prepares in shards; returns the number of kills, and what went wrong."""
  folder = pathlib.Path(source.incomplete_directory(str(data_dir)))
  shards = {}  # By process, which of the shards it is.
  kills = 0
  with Processes() as processes:

    def start(shard: int, times: int = 1) -> None:
      for _ in range(times):
        process = processes.start(
          [*command, f'--shard={shard}/{SHARDS}'], f'{data_dir}-{shard}.log'
        )
        shards[process] = shard

    for shard in range(SHARDS):
      start(shard)
    running = lambda: [x for x in shards if x.poll() is None]
    while kills < most and running():
      seen, more = _names(folder), rng.randint(1, 10)
      while len(_names(folder) - seen) < more and running():
        time.sleep(0.002)
      time.sleep(rng.uniform(0, 0.02))
      if not (alive := running()):
        break
      process = rng.choice(alive)
      if rng.random() < 0.5:
        kill_group(process)
      else:  # What decodes for it is left behind, and goes on for a while.
        process.kill()
      if process.wait() == -signal.SIGKILL:
        kills += 1
        start(shards.pop(process), rng.choice([1, 1, 2]))
    if failed := sorted({x for process, x in shards.items() if process.wait()}):
      return kills, f'shards {failed} failed, see {data_dir}-*.log'
    last = processes.start(command, f'{data_dir}.log')
    problem = f'the last step failed, see {data_dir}.log' if last.wait() else ''
  return kills, problem


def _names(folder: pathlib.Path) -> set[str]:
  return {name for _, _, names in os.walk(folder) for name in names}


def _sums(folder: pathlib.Path) -> dict[str, str]:
  """Returns the SHA-256 sum of each file, by its path in a folder."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob('*')
    if path.is_file()
  }
