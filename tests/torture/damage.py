"""Damages checkpoints as disks do: flipped bits, files cut short or gone."""

from collections.abc import Iterator
import logging
import pathlib
import random
import shutil
from typing import Any
import unittest

import jax
import numpy as np

from experiments import saved, seal, train
from experiments.experiment import Experiment
from tests.experiments import smoke
from tests.torture.outcome import Outcome, scaled

FLIPS, TRUNCATIONS, DELETIONS = 500, 100, 100


def _flip(path: pathlib.Path, rng: random.Random) -> str:
  content = bytearray(path.read_bytes())
  place = rng.randrange(8 * len(content))
  content[place // 8] ^= 1 << place % 8
  path.write_bytes(content)
  return f'bit {place} of {path.name} flipped'


def _truncate(path: pathlib.Path, rng: random.Random) -> str:
  size = rng.randrange(path.stat().st_size)
  with path.open('r+b') as file:
    file.truncate(size)
  return f'{path.name} cut to {size} bytes'


def _delete(path: pathlib.Path, rng: random.Random) -> str:
  del rng
  path.unlink()
  return f'{path.name} deleted'


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Damages a file of a run's latest checkpoint, each time in a new copy.

  Damage is survived if the run goes on from the checkpoint before, to the bit,
  and the log names the damaged one.
  """
  rng = random.Random(seed)
  original = pathlib.Path(folder) / 'original'
  some = smoke.create()
  train.train(some, str(original))
  before, latest = sorted(
    int(x.name) for x in (original / 'checkpoints').iterdir()
  )[-2:]
  expected = _restore(some, original, before)
  files = sorted(
    path.relative_to(original)
    for path in (original / 'checkpoints' / str(latest)).rglob('*')
    if path.is_file() and path.stat().st_size
  )
  for name, count, inflict in (
    ('flipped bits', FLIPS, _flip),
    ('files cut short', TRUNCATIONS, _truncate),
    ('deleted files', DELETIONS, _delete),
  ):
    outcome = Outcome(f'damage: {name}')
    for i in range(scaled(scale, count)):
      copy = original.with_name(f'{name.split()[-1]}-{i}')
      shutil.copytree(original / 'checkpoints', copy / 'checkpoints')
      done = inflict(copy / rng.choice(files), rng)
      problem = _problem(some, copy, i % 2 == 0, latest, expected)
      outcome.add(f'{copy}: {done}, {problem}' if problem else '')
      if not problem:
        shutil.rmtree(copy)
    yield outcome


def _problem(
  some: Experiment,
  workdir: pathlib.Path,
  trains: bool,
  damaged: int,
  expected: list[Any],
) -> str:
  """Says what is wrong with how a run goes on; '' if nothing is."""
  try:
    with unittest.TestCase().assertLogs('experiments', logging.WARNING) as said:
      if trains:
        found = _restore(some, workdir)
      else:
        found = _contents(saved.restore(some, str(workdir)))
      if found != expected:
        raise ValueError('other arrays were restored')
  except Exception as error:  # None of any kind may end a run.
    return f'{type(error).__name__}: {error}'
  if not any(f'Checkpoint {damaged} is damaged' in x for x in said.output):
    return 'without a warning'
  is_there = (workdir / 'checkpoints' / str(damaged)).exists()
  was_moved = (workdir / seal.DAMAGED / str(damaged)).exists()
  if (is_there, was_moved) != (not trains, trains):
    return 'it is in the wrong place'
  return ''


def _restore(
  some: Experiment, workdir: pathlib.Path, step: int | None = None
) -> list[Any]:
  """Returns what training would go on from, or what another step holds."""
  keep = some.config.train.keep_checkpoints
  with smoke.checkpoints(workdir, read_only=False, keep=keep) as checkpoints:
    step = checkpoints.step('latest') if step is None else step
    if step is None:
      raise ValueError('no checkpoint is left')
    state, _ = checkpoints.restore(step, saved.abstract_state(some))
  return _contents(state)


def _contents(state: Any) -> list[Any]:
  arrays = map(np.asarray, jax.tree.leaves(jax.device_get(state)))
  return [(x.dtype, x.shape, x.tobytes()) for x in arrays]
