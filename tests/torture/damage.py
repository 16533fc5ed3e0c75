"""Damages checkpoints as disks do: flipped bits, files cut short or gone."""

from collections.abc import Callable, Iterator
import contextlib
import logging
import pathlib
import random
import shutil
from typing import Any

import jax
import numpy as np

from configs import digits
from experiments import checkpoint, experiment, saved, seal, sharding, train
from experiments.experiment import Experiment
from tests.torture.outcome import Outcome

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

  Args:
    seed: of the files and places.
    scale: of the numbers.
    folder: to work in.

  Returns:
    What came of each kind of damage. One is survived if the run goes on from
    the checkpoint before, to the bit, and the log names the damaged one.
  """
  rng = random.Random(seed)
  original = pathlib.Path(folder) / 'original'
  some = _train(original)
  for name, count, do in (
    ('flipped bits', FLIPS, _flip),
    ('files cut short', TRUNCATIONS, _truncate),
    ('deleted files', DELETIONS, _delete),
  ):
    yield _damage(
      f'damage: {name}', some, original, max(1, round(scale * count)), do, rng
    )


def _train(workdir: pathlib.Path) -> Experiment:
  """A small run that leaves some checkpoints."""
  mesh = sharding.make_mesh(1, jax.local_devices()[:1])
  some = experiment.create(digits.get_config('smoke'), mesh)
  train.train(some, str(workdir))
  return some


def _damage(
  name: str,
  some: Experiment,
  original: pathlib.Path,
  count: int,
  do: Callable[[pathlib.Path, random.Random], str],
  rng: random.Random,
) -> Outcome:
  before, latest = sorted(
    int(x.name) for x in (original / 'checkpoints').iterdir()
  )[-2:]
  expected = _restore(some, original, before)
  files = sorted(
    path.relative_to(original)
    for path in (original / 'checkpoints' / str(latest)).rglob('*')
    if path.is_file() and (path.stat().st_size or do is _delete)
  )
  survived, note = 0, ''
  for i in range(count):
    copy = original.with_name(f'{name.split()[-1]}-{i}')
    shutil.copytree(original / 'checkpoints', copy / 'checkpoints')
    done = do(copy / rng.choice(files), rng)
    problem = _problem(some, copy, i % 2 == 0, latest, expected)
    if problem:
      note = note or f'{copy}: {done}, {problem}'
    else:
      survived += 1
      shutil.rmtree(copy)
  note = note or (
    f'{len(files)} files; as training and as evaluation open them'
  )
  return Outcome(name, count, survived, count - survived, note)


def _problem(
  some: Experiment,
  workdir: pathlib.Path,
  trains: bool,
  damaged: int,
  expected: list[np.ndarray],
) -> str:
  """What is wrong with how a run goes on; '': nothing."""
  with _warnings() as said:
    try:
      if trains:
        found = _restore(some, workdir)
      else:
        found = _arrays(saved.restore(some, str(workdir)))
    except Exception as error:  # None of any kind may end a run.
      return f'{type(error).__name__}: {error}'
  if not _are_equal(found, expected):
    return 'other arrays were restored'
  if not any(f'Checkpoint {damaged} is damaged' in text for text in said):
    return 'without a warning'
  is_there = (workdir / 'checkpoints' / str(damaged)).exists()
  was_moved = (workdir / seal.DAMAGED / str(damaged)).exists()
  if (is_there, was_moved) != (not trains, trains):
    return 'it is in the wrong place'
  return ''


def _restore(
  some: Experiment, workdir: pathlib.Path, step: int | None = None
) -> list[np.ndarray]:
  """The arrays that training goes on from, or those of another step."""
  checkpoints = checkpoint.Checkpoints(
    str(workdir),
    best_metric=some.task.best_metric,
    keep=some.config.train.keep_checkpoints,
    read_only=False,
  )
  try:
    step = checkpoints.step('latest') if step is None else step
    if step is None:
      raise ValueError('no checkpoint is left')
    state, _ = checkpoints.restore(step, saved.abstract_state(some))
  finally:
    checkpoints.close()
  return _arrays(state)


def _arrays(state: Any) -> list[np.ndarray]:
  return [np.asarray(x) for x in jax.tree.leaves(jax.device_get(state))]


def _are_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
  return len(found) == len(expected) and all(
    (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())
    for x, y in zip(found, expected, strict=True)
  )


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
  """What is logged on checkpoints inside; nobody else hears it."""
  said: list[str] = []
  handler = logging.Handler(logging.WARNING)
  handler.emit = lambda record: said.append(  # type: ignore[method-assign]
    record.getMessage()
  )
  log = logging.getLogger('experiments')
  handlers, propagate = log.handlers, log.propagate
  log.handlers, log.propagate = [handler], False
  try:
    yield said
  finally:
    log.handlers, log.propagate = handlers, propagate
