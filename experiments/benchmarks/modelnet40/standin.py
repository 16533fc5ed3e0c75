"""Solids in ModelNet40's own layout: a stand-in that needs no download.

Meshes of 12 kinds of solids, with random proportions, poses and noise, some
with the flaws of ModelNet40's meshes: no line break after OFF, polygons, faces
without area and vertices that no face has.
"""

from collections.abc import Callable
import math
import os
import zipfile

import numpy as np

from experiments.benchmarks.modelnet40 import off
from experiments.benchmarks.modelnet40.points import rotation_matrix

Solid = tuple[np.ndarray, list[list[int]]]  # Vertices [V, 3] and faces.

# Shapes in all, equally many of each kind. So many to test on tell scores that
# differ by two points.
SIZES = {'train': 720, 'test': 2004}
MAX_TILT = 10.0  # Degrees from the vertical; any angle about it.
NOISE = 0.01  # Standard deviation of the vertices; solids are about 2 wide.


def _revolve(profile: list[tuple[float, float]], sides: int) -> Solid:
  """Revolves a closed line of (radius, height); no face is on the axis."""
  angles = 2 * math.pi * np.arange(sides) / sides
  r, z = np.array(profile).T[:, :, None]  # [corners, 1] each
  vertices = np.stack(
    [r * np.cos(angles), r * np.sin(angles), z + 0 * angles], axis=-1
  ).reshape(-1, 3)
  index = lambda i, j: i % len(profile) * sides + j % sides
  faces = [
    [index(i, j), index(i, j + 1), index(i + 1, j + 1), index(i + 1, j)]
    for i in range(len(profile))
    for j in range(sides)
    if profile[i][0] > 0 or profile[i - len(profile) + 1][0] > 0
  ]
  return vertices, faces


def _extrude(base: list[tuple[float, float]]) -> Solid:
  """Stands a polygon up and gives it depth.

  Readers make caps into fans about their first corner, so it must see all the
  others.
  """
  n = len(base)
  front = [(x, -1.0, z) for x, z in base]
  back = [(x, 1.0, z) for x, z in base]
  walls = [[i, (i + 1) % n, n + (i + 1) % n, n + i] for i in range(n)]
  caps = [list(range(n)), list(range(n, 2 * n))]
  return np.array(front + back), walls + caps


def _polygon(
  sides: int, turn: float = 0.5, radius: float = 1.0, centre: float = 0.0
) -> list[tuple[float, float]]:
  """Returns corners on a circle; its centre is (centre, 0)."""
  angles = 2 * math.pi * (np.arange(sides) + turn) / sides
  return [(centre + radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _pyramid(sides: int) -> Solid:
  base = [(x, y, -1.0) for x, y in _polygon(sides)]
  walls = [[i, (i + 1) % sides, sides] for i in range(sides)]
  return np.array([*base, (0.0, 0.0, 1.0)]), [*walls, list(range(sides))]


def _octahedron() -> Solid:
  ring = [(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0)]
  vertices = np.array([*ring, (0, 0, 1), (0, 0, -1)], float)
  return vertices, [[i, (i + 1) % 4, apex] for apex in (4, 5) for i in range(4)]


def _sphere() -> Solid:
  angles = np.linspace(-math.pi / 2, math.pi / 2, 17)[1:-1]
  ring = [(math.cos(a), math.sin(a)) for a in angles]
  return _revolve([(0, -1), *ring, (0, 1)], 32)


def _stairs(steps: int) -> Solid:
  # First the corner at the floor, which sees the edges of all steps.
  corners = [(1.0, -1.0), (-1.0, -1.0)]
  for i in range(steps):
    x, z = -1 + 2 * i / steps, -1 + 2 * (i + 1) / steps
    corners += [(x, z), (x + 2 / steps, z)]
  return _extrude(corners)


def _tube(thickness: float) -> Solid:
  inner = 1 - thickness
  return _revolve([(1, -1), (1, 1), (inner, 1), (inner, -1)], 32)


KINDS: dict[str, Callable[[np.random.Generator], Solid]] = {
  'box': lambda rng: _extrude([(-1, -1), (1, -1), (1, 1), (-1, 1)]),
  'cone': lambda rng: _pyramid(32),
  'cylinder': lambda rng: _revolve([(0, -1), (1, -1), (1, 1), (0, 1)], 32),
  'l_shape': lambda rng: _l_shape(*rng.uniform(0.4, 0.8, 2)),
  'octahedron': lambda rng: _octahedron(),
  'prism': lambda rng: _extrude([(-1, -1), (1, -1), (0, 1)]),
  'pyramid': lambda rng: _pyramid(4),
  'sphere': lambda rng: _sphere(),
  'stairs': lambda rng: _stairs(int(rng.integers(3, 6))),
  'tetrahedron': lambda rng: _pyramid(3),
  'torus': lambda rng: _revolve(
    _polygon(16, turn=0, radius=rng.uniform(0.2, 0.4), centre=0.7), 32
  ),
  'tube': lambda rng: _tube(rng.uniform(0.15, 0.4)),
}
CATEGORIES = tuple(KINDS)


def _l_shape(width: float, height: float) -> Solid:
  x, z = -1 + width, -1 + height
  # First the inner corner, which sees all the others.
  return _extrude([(x, z), (x, 1), (-1, 1), (-1, -1), (1, -1), (1, z)])


def mesh(kind: str, rng: np.random.Generator) -> bytes:
  """Returns an .off file with one solid, of random proportions and pose."""
  vertices, faces = KINDS[kind](rng)
  vertices = vertices * rng.uniform(0.7, 1.3, 3)
  vertices = vertices + NOISE * rng.normal(size=vertices.shape)
  pose = rotation_matrix(rng.uniform(-MAX_TILT, MAX_TILT), 0)
  pose = rotation_matrix(rng.uniform(-MAX_TILT, MAX_TILT), 1) @ pose
  pose = rotation_matrix(rng.uniform(0, 360), 2) @ pose
  vertices = vertices @ pose.T
  # Sizes and places differ as if authors used different units.
  vertices = vertices * 10 ** rng.uniform(-1, 2) + 10 * rng.normal(size=3)
  if rng.random() < 0.2:
    vertices = np.concatenate([vertices, [[1e3, 1e3, 1e3]]])  # No face has it.
    faces = [*faces, [0, 1, 0]]  # Without area.
  return off.write(vertices, faces, rng.choice(['OFF\n', 'OFF']))


def generate(path: str, seed: int = 0) -> None:
  """Writes the zip archive; the same seed gives the same meshes."""
  rng = np.random.default_rng(seed)
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  temporary = f'{path}.tmp'
  with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_DEFLATED) as archive:
    for kind in KINDS:
      for split, size in SIZES.items():
        for i in range(size // len(KINDS)):
          name = f'solids/{kind}/{split}/{kind}_{i + 1:04}.off'
          # ZipInfo has a fixed date: the archive's bytes are the same too.
          entry = zipfile.ZipInfo(name)
          archive.writestr(entry, mesh(kind, rng), zipfile.ZIP_DEFLATED)
  os.replace(temporary, path)
