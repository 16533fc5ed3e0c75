"""Results of each test example, and the file that keeps them.

Models that were tested on the same examples are compared example by example,
which tells much smaller differences than their scores alone do.
"""

import abc
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import io
import pathlib
from typing import Any, Self
import zipfile

import numpy as np

from experiments import storage

RESAMPLES = 500  # Of the bootstrap.
SEED = 0  # The same examples are drawn for all results.


class Scores(abc.ABC):
  """A score, the higher the better, on the same examples for each seed."""

  @abc.abstractmethod
  def scores(self) -> list[float]:
    """The score of each seed."""

  @abc.abstractmethod
  def variance(self, other: Self | None = None) -> float:
    """The variance of the seeds' mean score that the choice of examples makes.

    Where it can be told, it leaves out what the seeds make of each example: the
    variance between the seeds' scores has that.

    With `other`, that of the difference from the other's, on the same examples.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Means(Scores):
  """Scores that are means of values [seeds, examples]."""

  values: np.ndarray

  def scores(self) -> list[float]:
    return self.values.mean(axis=1).tolist()

  def variance(self, other: Self | None = None) -> float:
    means = self.values.mean(axis=0)
    of_seeds = self._variance_of_mean
    if other is not None:
      means = means - other.values.mean(axis=0)  # McNemar's, for one seed.
      of_seeds = of_seeds + other._variance_of_mean
    return float(max(0.0, means.var(ddof=1) - of_seeds) / len(means))

  @functools.cached_property
  def _variance_of_mean(self) -> float:
    """The variance over the seeds of their mean value of an example."""
    num_seeds = len(self.values)
    if num_seeds == 1:
      return 0.0
    return float(self.values.var(axis=0, ddof=1).mean() / num_seeds)


@dataclasses.dataclass(frozen=True, eq=False)
class Examples(abc.ABC):
  """Results of each test example, for each seed."""

  loss: np.ndarray  # [seeds, examples] float16

  @property
  @abc.abstractmethod
  def by_score(self) -> Scores:
    """Top-1 accuracy or mAP."""

  @property
  def by_loss(self) -> Scores:
    """The loss, with a minus."""
    return Means(-self.loss.astype(np.float64))


@dataclasses.dataclass(frozen=True, eq=False)
class Classified(Examples):
  """Examples that have one label each."""

  correct: np.ndarray  # [seeds, examples] bool

  @property
  def by_score(self) -> Scores:
    return Means(self.correct)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked(Examples, Scores):
  """Examples that have any number of labels."""

  # [seeds, classes, examples] uint16: by the score for the class, ascending
  # from 0; equal scores have the same.
  ranks: np.ndarray
  labels: np.ndarray  # [classes, examples] bool

  @property
  def by_score(self) -> Scores:
    return self

  def scores(self) -> list[float]:
    (scores,) = self._mean_precisions(np.ones((1, self.labels.shape[1]), int))
    return scores.tolist()

  def variance(self, other: Self | None = None) -> float:
    values = self._resampled
    if other is not None:
      values = values - other._resampled
    return float(values.var(ddof=1))

  @functools.cached_property
  def _resampled(self) -> np.ndarray:
    """[RESAMPLES] scores, means of the seeds, on examples drawn again."""
    size = self.labels.shape[1]
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    return self._mean_precisions(weights.astype(np.int32)).mean(axis=1)

  def _mean_precisions(self, weights: np.ndarray) -> np.ndarray:
    """[samples, seeds] means over the classes that have a label in the sample.

    `weights` [samples, examples] is how often each example is in a sample.
    """
    precisions = [
      [
        _average_precision(of_class, labels, weights)
        for of_class, labels in zip(of_seed, self.labels, strict=True)
      ]
      for of_seed in self.ranks
    ]
    return np.nanmean(precisions, axis=1).T


def _average_precision(
  ranks: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """Average precision [samples] of one class; NaN where it has no label."""
  order = np.argsort(ranks, kind='stable')[::-1]
  weights = weights[:, order]
  positives = np.flatnonzero(labels[order])
  if not len(positives):
    return np.full(len(weights), np.nan)
  # A threshold takes all examples with an equal score, down to the last one.
  falling = -ranks[order].astype(int)
  ends = np.searchsorted(falling, falling[positives], 'right') - 1
  chosen = np.cumsum(weights, axis=1)[:, ends]
  gained = weights[:, positives]
  found = np.cumsum(gained, axis=1)
  total = found[:, -1]
  found = found[:, np.searchsorted(positives, ends, 'right') - 1]
  precision = found / np.maximum(chosen, 1)
  with np.errstate(invalid='ignore'):
    return np.sum(gained * precision, axis=1) / total


def classified(predictions: Sequence[Mapping[str, np.ndarray]]) -> Classified:
  """Takes what is compared from the predictions of each seed's run.

  They are as in `experiments.evaluate.Evaluation.predictions`.
  """
  correct = [x['classes'][:, 0] == x['label'] for x in predictions]
  return Classified(_losses(predictions), np.stack(correct))


def ranked(predictions: Sequence[Mapping[str, np.ndarray]]) -> Ranked:
  """Takes the same from predictions of several labels."""
  ranks = [
    [
      np.unique(of_class, return_inverse=True)[1]
      for of_class in x['all_scores'].T
    ]
    for x in predictions
  ]
  labels = predictions[0]['all_labels'].T
  return Ranked(_losses(predictions), np.array(ranks, np.uint16), labels)


def _losses(predictions: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
  return np.stack([x['loss'] for x in predictions]).astype(np.float16)


def write(path: pathlib.Path, by_title: Mapping[str, Examples]) -> None:
  """Writes the file; the same examples give the same bytes."""
  arrays: dict[str, Any] = {}
  for title, examples in sorted(by_title.items()):
    for field in dataclasses.fields(examples):
      array = getattr(examples, field.name)
      if array.dtype == bool:
        arrays[f'{title}|{field.name}|{array.shape[-1]}'] = np.packbits(
          array, -1
        )
      else:
        arrays[f'{title}|{field.name}'] = array
  stream = io.BytesIO()
  np.savez_compressed(stream, **arrays)
  storage.write(storage.path(str(path)), stream.getvalue())


def read(path: pathlib.Path) -> dict[str, Examples]:
  """Returns the examples by title; {} if there is no such file.

  Raises:
    ValueError: if the file holds something else.
  """
  if not path.exists():
    return {}
  fields: dict[str, dict[str, np.ndarray]] = {}
  try:
    with np.load(path) as arrays:
      for key, array in arrays.items():
        title, name, *count = key.split('|')
        if count:
          array = np.unpackbits(array, -1, int(count[0])).astype(bool)
        fields.setdefault(title, {})[name] = array
    return {
      title: (Ranked if 'ranks' in x else Classified)(**x)
      for title, x in fields.items()
    }
  except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
    raise ValueError(f'{path} has no examples of a sweep: {error}') from error
