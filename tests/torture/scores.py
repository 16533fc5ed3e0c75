"""Which checkpoints are kept, latest and best, whatever their scores are."""

from collections.abc import Iterator, Mapping
import math
import os
import random
import shutil

import jax
import jax.numpy as jnp

from experiments.checkpoint import Checkpoints
from tests.torture.outcome import Outcome

SEQUENCES = 100
SAVES = (5, 20)  # In a sequence, at least and at most.
METRIC = 'top1'
# Often equal, or no number at all.
VALUES = (0.1, 0.1, 0.2, 0.2, 0.3, 0.5, 0.0, -1.0)
STRANGE = (math.nan, math.inf, -math.inf)


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Saves in random sequences of scores, and opens again now and then.

  Args:
    seed: of the sequences.
    scale: of their number.
    folder: to work in.

  Returns:
    How many ended with the right checkpoints.
  """
  count, lost, saves, note = max(1, round(scale * SEQUENCES)), 0, 0, ''
  for i in range(count):
    workdir = os.path.join(folder, str(i))
    sequence = _Sequence(random.Random(f'{seed}, {i}'), workdir)
    try:
      problem = sequence.problem()
    except Exception as error:  # None of any kind is expected.
      problem = f'{type(error).__name__}: {error}'
    saves += len(sequence.scores)
    if problem:
      lost += 1
      note = note or f'{workdir}: {problem}; keep {sequence.describe()}'
    else:
      shutil.rmtree(workdir)
  yield Outcome(
    'scores: latest and best of random ones',
    count,
    count - lost,
    lost,
    note or f'{saves} saves',
  )


class _Sequence:
  """Saves of one run."""

  def __init__(self, rng: random.Random, workdir: str):
    self._rng = rng
    self._workdir = workdir
    self._keep = rng.randint(1, 3)
    # Some have none that is finite.
    self._strange = rng.choice([0.0, 0.2, 0.5, 1.0])
    self._missing = rng.choice([0.0, 0.3])
    self.scores: dict[int, float | None] = {}  # Of all that was saved.

  def describe(self) -> str:
    return f'{self._keep} of {self.scores}'

  def problem(self) -> str:
    """Saves; says what is not as it should be, '' if nothing is."""
    step, checkpoints = 0, self._open(read_only=False)
    try:
      for _ in range(self._rng.randint(*SAVES)):
        step += self._rng.randint(1, 120)  # Also in another order as text.
        score = self.scores[step] = self._score()
        checkpoints.save(
          step, {'x': jnp.float32(step)}, 10 * step, _metrics(score)
        )
        if self._rng.random() < 0.5:
          checkpoints.poll()
        if self._rng.random() < 0.2:
          checkpoints.close()
          if problem := self._found():
            return problem
          checkpoints = self._open(read_only=False)
          # As training does, if it was told to stop in an evaluation.
          if score is None and self._rng.random() < 0.5:
            score = self.scores[step] = self._value()
            checkpoints.add_score(step, {METRIC: score})
    finally:
      checkpoints.close()
    return self._found()

  def _open(self, read_only: bool) -> Checkpoints:
    return Checkpoints(
      self._workdir, best_metric=METRIC, keep=self._keep, read_only=read_only
    )

  def _score(self) -> float | None:
    return None if self._rng.random() < self._missing else self._value()

  def _value(self) -> float:
    is_strange = self._rng.random() < self._strange
    return self._rng.choice(STRANGE if is_strange else VALUES)

  def _found(self) -> str:
    """What of the closed checkpoints is wrong; '': nothing."""
    latest, best = max(self.scores), best_of(self.scores)
    wanted = {*sorted(self.scores)[-self._keep :], best}
    there = {
      int(x)
      for x in os.listdir(os.path.join(self._workdir, 'checkpoints'))
      if x.isdecimal()
    }
    # Where no score is finite, Orbax keeps one of them that stands for none.
    score = self.scores[best]
    spare = score is None or not math.isfinite(score)
    checkpoints = self._open(read_only=True)
    try:
      for which, step in (('latest', latest), ('best', best)):
        found = checkpoints.step(which)
        if found != step:
          return f'{which} is {found}, not {step}'
        x = jax.ShapeDtypeStruct(
          (),
          jnp.float32,
          sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
        )
        state, position = checkpoints.restore(step, {'x': x})
        if (float(state['x']), position) != (step, 10 * step):
          return f'{which} has {state["x"]} at {position}, not {step}'
    finally:
      checkpoints.close()
    if not (wanted <= there and len(there - wanted) <= spare):
      return f'{sorted(there)} are kept, not {sorted(wanted)}'
    return ''


def best_of(scores: Mapping[int, float | None]) -> int:
  """The step of the highest finite score, the latest of equals; or of all."""
  finite = {
    step: x for step, x in scores.items() if x is not None and math.isfinite(x)
  }
  if not finite:
    return max(scores)
  return max(step for step, x in finite.items() if x == max(finite.values()))


def _metrics(score: float | None) -> dict[str, float] | None:
  return None if score is None else {METRIC: score}
