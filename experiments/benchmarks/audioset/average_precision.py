"""Average precision, from the scores of all examples of a split."""

from collections.abc import Sequence
import csv
import io

import numpy as np
from sklearn.metrics import average_precision_score

from experiments.task import Summary


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Each class's precision, averaged over recall.

  Examples are ranked within a class, never classes within an example: that was
  the mistake of the paper's first version (appendix F).

  Args:
    scores: [examples, classes].
    labels: [examples, classes] bool.

  Returns:
    [classes] float64; NaN for classes without a positive example.
  """
  result = np.full(labels.shape[1], np.nan)
  has_positives = labels.any(axis=0)
  if has_positives.any():
    result[has_positives] = average_precision_score(
      labels[:, has_positives], scores[:, has_positives], average=None
    )
  return result


def summarize(
  scores: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Summary:
  """Returns the mean average precision, and a table of each class's.

  Scores and labels are as for `average_precision`. Raises ValueError if there
  is no label.
  """
  precisions = average_precision(scores, labels)
  left_out = int(np.sum(np.isnan(precisions)))
  if left_out == len(precisions):
    raise ValueError('No clip of the evaluation split has a label.')
  table = io.StringIO()
  writer = csv.writer(table, lineterminator='\n')
  writer.writerow(['index', 'name', 'positives', 'average_precision'])
  columns = class_names, labels.sum(axis=0), precisions
  for i, (name, count, value) in enumerate(zip(*columns, strict=True)):
    text = '' if np.isnan(value) else f'{value:.6f}'
    writer.writerow([i, name, count, text])
  return Summary(
    {'mAP': float(np.nanmean(precisions)), 'classes_left_out': left_out},
    {'average_precision.csv': table.getvalue()},
  )
