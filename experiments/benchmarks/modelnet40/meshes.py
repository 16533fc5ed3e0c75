"""Meshes, whatever file they come from, and points on their surface.

Glossary of shapes:
- V: vertices; F: triangles; M: points.
"""

from collections.abc import Iterable, Iterator
import io

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]  # Vertices [V, 3], triangles [F, 3].

MAX_LINE = 2**20  # Characters.
# Lines, and numbers, of a text. A million of them take about half a second.
MAX_COUNT = 20_000_000


class MeshError(ValueError):
  """A file that is not a mesh of its format, or a mesh without a surface."""


def read_lines(data: bytes) -> Iterator[str]:
  """Yields lines without their ends.

  Raises MeshError if there are very many, or one is very long.
  """
  # Not `splitlines`, whose list may take many times the memory of the file.
  file = io.TextIOWrapper(io.BytesIO(data), 'latin-1')
  count = 0
  while line := file.readline(MAX_LINE):
    check_count(count := count + 1, 'lines')
    if len(line) == MAX_LINE:
      raise MeshError(f'It has a line of more than {MAX_LINE} characters.')
    yield line.rstrip('\n')


def check_count(count: int, what: str) -> None:
  """Raises MeshError if a text has too many lines or numbers to read."""
  if count > MAX_COUNT:
    raise MeshError(f'It has more than {MAX_COUNT} {what}.')


def check_corners(
  triangles: np.ndarray, num_vertices: int, first: int = 0
) -> None:
  """Raises MeshError if triangles have corners that do not exist.

  Args:
    triangles: [F, 3], counted from 0.
    num_vertices: V.
    first: the number of the first vertex in the file, for the message.
  """
  if len(triangles) and not (
    triangles.min() >= 0 and triangles.max() < num_vertices
  ):
    raise MeshError(
      f'Faces have vertices from {triangles.min() + first} to'
      f' {triangles.max() + first}, but there are {first} to'
      f' {num_vertices - 1 + first}.'
    )


def fans(groups: Iterable[np.ndarray]) -> np.ndarray:
  """Makes polygons into triangles about their first corners.

  Args:
    groups: [polygons, corners] each, of at least three corners.

  Returns:
    [F, 3] int64.
  """
  triangles = [np.zeros((0, 3), np.int64)]
  for polygons in groups:
    second, third = polygons[:, 1:-1], polygons[:, 2:]
    first = np.broadcast_to(polygons[:, :1], second.shape)
    fan = np.stack([first, second, third], axis=-1)
    triangles.append(fan.reshape(-1, 3).astype(np.int64, copy=False))
  return np.concatenate(triangles)


def sample_surface(
  vertices: np.ndarray,
  triangles: np.ndarray,
  num_points: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Draws points from a surface, uniformly by area.

  Args:
    vertices: [V, 3].
    triangles: [F, 3] indices of vertices; some may have no area.
    num_points: M.
    rng: source of randomness.

  Returns:
    [M, 3] float64.

  Raises:
    MeshError: if the area is zero or not finite.
  """
  origins = vertices[triangles[:, 0]]  # [F, 3]
  with np.errstate(over='ignore', invalid='ignore'):  # Checked below.
    sides = [vertices[triangles[:, i]] - origins for i in (1, 2)]
    areas = np.linalg.norm(np.cross(*sides), axis=-1) / 2  # [F]
    area = areas.sum()
  if not np.isfinite(area) or area == 0:
    raise MeshError(f'Its {len(triangles)} triangles have an area of {area}.')
  chosen = rng.choice(len(areas), num_points, p=areas / area)  # [M]
  u, v = rng.random((2, num_points, 1))
  # The parallelogram's far half is folded back onto the triangle.
  u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))
  return origins[chosen] + u * sides[0][chosen] + v * sides[1][chosen]
