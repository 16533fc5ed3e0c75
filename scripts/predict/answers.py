"""Classifies files with a run's checkpoint, as in evaluation."""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from experiments import evaluate, sharding
from experiments.experiment import Experiment, TrainState
from scripts.predict.paths import Found


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A class and its probability."""

  index: int
  name: str
  score: float


@dataclasses.dataclass(frozen=True)
class Answer:
  """The best classes of a file, or the reason for its refusal."""

  path: str
  predictions: tuple[Prediction, ...] = ()
  refusal: str | None = None


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A run's model with the weights of a checkpoint."""

  run: Experiment
  state: TrainState
  names: Sequence[str]  # Of the classes.
  top: int
  batch_size: int

  def answers(self, files: Iterable[Found]) -> Iterator[Answer]:
    """Yields an answer for each file, in order."""

    @jax.jit
    def step(params, model_state, batch):
      logits = evaluate.predict(self.run, params, model_state, batch)
      return evaluate.best_classes(self.run.task, logits, self.top)

    # A batch is computed while the next one is read.
    waiting: tuple[list[Answer], Any] = [], None
    for some, batch in self._batches(files):
      result = None
      if batch is not None:
        batch = sharding.put_batch(batch, self.run.mesh)
        result = step(self.state.params, self.state.model_state, batch)
      yield from self._join(*waiting)
      waiting = some, result
    yield from self._join(*waiting)

  def _batches(
    self, files: Iterable[Found]
  ) -> Iterator[tuple[list[Answer], dict[str, np.ndarray] | None]]:
    """Yields batches, padded with zeros, with the answers to complete.

    A refused file has an answer but no example in the batch. If it comes while
    no batch has begun, it is yielded at once, without a batch.
    """
    spec = self.run.task.eval_spec()
    some: list[Answer] = []
    batch, filled = None, 0
    for path, example in self._examples(files):
      if isinstance(example, Exception):
        some.append(Answer(path, refusal=_reason(example)))
      else:
        if batch is None:
          batch = {
            name: np.zeros((self.batch_size, *x.shape), x.dtype)
            for name, x in spec.items()
          }
        for name, array in batch.items():
          array[filled] = example[name]
        some.append(Answer(path))
        filled += 1
      if filled == self.batch_size or batch is None:
        yield some, batch
        some, batch, filled = [], None, 0
    if some:
      yield some, batch

  def _examples(
    self, files: Iterable[Found]
  ) -> Iterator[tuple[str, dict[str, np.ndarray] | Exception]]:
    task = self.run.task
    files = list(files)
    good = (file.path for file in files if file.problem is None)
    records = task.file_reader.read(good)
    for file in files:
      if file.problem is not None:
        yield file.path, file.problem
        continue
      _, record = next(records)
      if not isinstance(record, Exception):
        try:
          record = task.eval_example(record)
        except ValueError as error:  # DamagedRecordError is one.
          record = error
      yield file.path, record

  def _join(self, some: list[Answer], result: Any) -> Iterator[Answer]:
    """Yields the answers, with the predictions of the files not refused."""
    rows: Iterator[Any] = iter(())
    if result is not None:
      rows = zip(*map(np.asarray, result), strict=True)
    for answer in some:
      if answer.refusal is None:
        best = zip(*next(rows), strict=True)
        predictions = tuple(
          Prediction(int(i), self.names[i], float(score)) for score, i in best
        )
        answer = dataclasses.replace(answer, predictions=predictions)
      yield answer


def _reason(error: Exception) -> str:
  strerror = error.strerror if isinstance(error, OSError) else None
  return strerror or str(error) or type(error).__name__
