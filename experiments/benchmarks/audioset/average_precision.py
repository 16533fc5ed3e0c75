"""Average precision, from the scores of all examples of a split."""

import numpy as np
from sklearn.metrics import average_precision_score


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
