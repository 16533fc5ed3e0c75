"""Augmentation of point clouds (section 4.3).

Glossary of shapes:
- M: points. All clouds are [M, 3]; the half-side of the unit cube is 1.
"""

import math

import numpy as np


def scale(
  points: np.ndarray, max_scaling: float, rng: np.random.Generator
) -> np.ndarray:
  """Multiplies each coordinate by its own factor, 1 ± max_scaling at most."""
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
  """Returns the [3, 3] matrix that turns columns about one axis."""
  cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
  a, b = (axis + 1) % 3, (axis + 2) % 3
  rotation = np.eye(3)
  rotation[[a, a, b, b], [a, b, a, b]] = cos, -sin, sin, cos
  return rotation
