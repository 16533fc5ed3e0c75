"""Average precision against its definition."""

import csv

import numpy as np
import pytest

from experiments.benchmarks.audioset.average_precision import (
  average_precision,
  summarize,
)


def precision_at_recall(scores, labels):
  """Sums precisions at all thresholds, weighted by the growth of recall."""
  total, recall, positives = 0.0, 0.0, labels.sum()
  for threshold in np.unique(scores)[::-1]:
    chosen = scores >= threshold
    hits = labels[chosen].sum()
    total += hits / chosen.sum() * (hits / positives - recall)
    recall = hits / positives
  return total


def test_it_is_the_area_under_precision_and_recall_with_ties():
  """Examples are ranked within a class."""
  rng = np.random.default_rng(0)
  labels = rng.random((300, 7)) < 0.1
  for levels in (3, 20, 10**6):
    scores = rng.integers(levels, size=labels.shape).astype(np.float32) / levels
    expected = [
      precision_at_recall(s, y) for s, y in zip(scores.T, labels.T, strict=True)
    ]
    np.testing.assert_allclose(
      average_precision(scores, labels), expected, rtol=1e-6
    )


def test_classes_without_positives_have_none():
  scores = np.random.default_rng(0).random((5, 3))
  labels = np.zeros((5, 3), bool)
  assert np.isnan(average_precision(scores, labels)).all()
  with pytest.raises(ValueError, match='No clip of the evaluation split has'):
    summarize(scores, labels, 'abc')
  labels[2, 1] = True
  result = average_precision(scores, labels)
  np.testing.assert_array_equal(np.isnan(result), [True, False, True])


def test_each_class_is_a_line_of_the_table():
  scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5]])
  labels = np.array([[1, 1, 0], [0, 0, 0]], bool)
  summary = summarize(scores, labels, ['Cat', 'Dog, barking', 'Owl'])
  assert summary.metrics == {'mAP': 0.75, 'classes_left_out': 1}
  (table,) = summary.files.values()
  assert list(csv.reader(table.splitlines()))[1:] == [
    ['0', 'Cat', '1', '1.000000'],
    ['1', 'Dog, barking', '1', '0.500000'],
    ['2', 'Owl', '0', ''],
  ]
