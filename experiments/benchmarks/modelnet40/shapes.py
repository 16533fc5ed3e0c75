"""Shapes as clouds of the points that the model sees, drawn by their names.

Glossary of shapes:
- M: points.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import os
import re

import numpy as np

from experiments.benchmarks.modelnet40 import meshes
from experiments.benchmarks.modelnet40.source import NUM_POINTS
from perceiver.modalities import normalize_points

SAMPLING_SEED = 0
MESH = re.compile(r'(?:.*/)?([^/]+)/(train|test)/([^/]+)\.(?i:obj|off|ply|stl)')


@dataclasses.dataclass(frozen=True)
class Shape:
  """A shape of a data set, which may not be read yet."""

  name: str  # Unique in the data set.
  split: str
  category: str
  position: int  # Shapes are read fastest in this order.
  read: Callable[[], np.ndarray]  # [M, 3] float32, normalized; or ValueError.


def sample(mesh: meshes.Mesh, name: str) -> np.ndarray:
  """Draws normalized points, [M, 3] float32, on the surface of a mesh.

  The draws follow from its name. Raises ValueError if the mesh has no surface,
  or no finite one.
  """
  sampled = meshes.sample_surface(*mesh, NUM_POINTS, generator(name))
  # Before float32, whose digits a mesh far from the origin would use up.
  return normalize_points(sampled).astype(np.float32)


def draw(cloud: np.ndarray, name: str) -> np.ndarray:
  """Draws as many points as the model sees, and normalizes them.

  A larger cloud is sampled; a smaller one is whole, with some points twice or
  more. The draws follow from the name.

  Args:
    cloud: [n, 3], integers or floats.
    name: from `name_of`, or a shape's.

  Returns:
    [M, 3] float32.

  Raises:
    ValueError: if there is no point, a coordinate is not finite, or all points
      are the same.
  """
  count = len(cloud)
  if not np.isfinite(cloud).all():
    raise ValueError('It has coordinates that are not finite.')
  if count == 0:
    raise ValueError('It has no points.')
  rng = generator(name)
  if count > NUM_POINTS:
    chosen = rng.choice(count, NUM_POINTS, replace=False)
  else:
    more = rng.choice(count, NUM_POINTS - count)
    chosen = np.concatenate([np.arange(count), more])
  # Before float32, as in `sample`.
  with np.errstate(over='ignore'):  # `normalize_points` checks.
    drawn = np.asarray(cloud[chosen], np.float64)
  return normalize_points(drawn).astype(np.float32)


def name_of(path: str) -> str:
  """Returns a shape's name: CLASS/SPLIT/NAME, or NAME elsewhere."""
  path = os.path.abspath(path)
  if match := MESH.fullmatch(path):
    return '/'.join(match.groups())
  return os.path.splitext(os.path.basename(path))[0]


def generator(name: str) -> np.random.Generator:
  """Returns the generator that draws points on the shape of that name.

  It follows from the name alone, so the order of the shapes and damaged ones do
  not matter.
  """
  # Names of files need not be in UTF-8.
  text = f'{SAMPLING_SEED}/{name}'.encode(errors='surrogateescape')
  digest = hashlib.sha256(text).digest()
  return np.random.default_rng(int.from_bytes(digest[:8], 'big'))
