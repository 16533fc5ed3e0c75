"""Point clouds as the model sees them, and their augmentation (section 4.3).

Glossary of shapes:
- M: points. All clouds are [M, 3]; the half-side of the unit cube is 1.
"""

import math

import numpy as np


def normalize(points: np.ndarray) -> np.ndarray:
  """Moves and scales a cloud to zero mean and the unit cube.

  One scale for the three axes keeps the proportions: the largest coordinate,
  in absolute value, becomes 1.

  Args:
    points: [M, 3].

  Returns:
    [M, 3] in [-1, 1], in the dtype of the points.

  Raises:
    ValueError: if a coordinate is not finite, or all points are the same.
  """
  with np.errstate(invalid='ignore', over='ignore'):  # Checked below.
    centred = points - points.mean(axis=0)
    scale = np.abs(centred).max()
  if not np.isfinite(scale) or scale == 0:
    raise ValueError(f'A point cloud of extent {scale} cannot be normalized.')
  return centred / scale


def scale(
  points: np.ndarray, max_scaling: float, rng: np.random.Generator
) -> np.ndarray:
  """A factor of its own for every coordinate, 1 ± max_scaling at most."""
  low, high = 1 - max_scaling, 1 + max_scaling
  return points * rng.uniform(low, high, points.shape).astype(points.dtype)


def translate(
  points: np.ndarray, max_translation: float, rng: np.random.Generator
) -> np.ndarray:
  """Moves each point on its own, ± max_translation at most along each axis."""
  low, high = -max_translation, max_translation
  return points + rng.uniform(low, high, points.shape).astype(points.dtype)


def rotate(
  points: np.ndarray,
  max_rotation: float,
  axis: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Turns the cloud about one axis, ± max_rotation degrees at most."""
  rotation = rotation_matrix(rng.uniform(-max_rotation, max_rotation), axis)
  return points @ rotation.T.astype(points.dtype)


def rotation_matrix(degrees: float, axis: int) -> np.ndarray:
  """[3, 3], which turns columns about one axis."""
  cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
  a, b = (axis + 1) % 3, (axis + 2) % 3
  rotation = np.eye(3)
  rotation[[a, a, b, b], [a, b, a, b]] = cos, -sin, sin, cos
  return rotation
