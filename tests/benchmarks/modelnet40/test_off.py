"""Meshes are read as meant; points lie on them, spread by area."""

import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks.modelnet40 import meshes, off

# A square of two triangles and a pyramid's tip above it.
VERTICES = '0 0 0\n1 0 0\n1 1 0\n0 1 0\n0.5 0.5 1\n'
SQUARE = [[0, 1, 2], [0, 2, 3]]


def parse(text):
  vertices, triangles = off.parse(text.encode())
  assert (vertices.dtype, triangles.dtype) == (np.float64, np.int64)
  return vertices, triangles.tolist()


@pytest.mark.parametrize(
  'text',
  [
    f'OFF\n5 2 0\n{VERTICES}3 0 1 2\n3 0 2 3\n',
    f'OFF5 2 0\n{VERTICES}3 0 1 2\n3 0 2 3\n',
    f'OFF 5 2\n{VERTICES}3 0 1 2\n3 0 2 3',
    f'# ours\n\nOFF # header\n\n5 2 0\n{VERTICES}\n\n3 0 1 2\n3 0 2 3\n',
    f'OFF\n5 2 0\n{VERTICES}3 0 1 2 255 0 0\n3 0 2 3 0.5 0.5 1 1\n',
    f'OFF\n5 2 0\n{VERTICES}3 0 1 2\n3 0 2 3\n'.replace('\n', '\r\n'),
    f'OFF\n5 2 0\n{VERTICES}3\t0  1 2\n 3 0 2 3 \n',
    # A polygon is a fan; points and lines have no area.
    f'OFF\n5 1 0\n{VERTICES}4 0 1 2 3\n',
    f'OFF\n5 4 0\n{VERTICES}4 0 1 2 3\n1 4\n2 0 4\n0\n',
  ],
)
def test_the_same_square_however_it_is_written(text):
  vertices, triangles = parse(text)
  assert triangles == SQUARE
  assert vertices.tolist() == np.loadtxt(VERTICES.splitlines()).tolist()


def test_faces_of_all_sizes_are_kept():
  _, triangles = parse(
    f'OFF\n5 4 0\n{VERTICES}3 0 1 4\n4 0 1 2 3\n3 1 2 4\n5 0 1 2 3 4\n'
  )
  fans = [[0, 1, 4], [1, 2, 4], *SQUARE, *SQUARE, [0, 3, 4]]
  assert sorted(triangles) == sorted(fans)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', "does not start with OFF but with ''"),
    ('ply\n5 2 0', "does not start with OFF but with 'ply'"),
    ('OFF', "'' are not counts"),
    ('OFF\nmany 2 0', "'many 2 0' are not counts"),
    ('OFF\n-5 2 0', "'-5 2 0' are not counts"),
    (f'OFF\n6 2 0\n{VERTICES}3 0 1 2\n3 0 2 3', '6 vert.* but 7 lines follow'),
    (f'OFF\n5 1 0\n{VERTICES}3 0 1 2\n3 0 2 3', '1 faces, but 7 lines follow'),
    (f'OFF\n{10**17} {10**17} 0\n{VERTICES}', 'but 5 lines follow'),
    (f'OFF\n{10**30} 1 0\n{VERTICES}', 'are not counts'),
    (f'OFF\n5 0 0\n{VERTICES}', '0 faces: empty'),
    (f'OFF\n4 3 0\n{VERTICES}3 0 1 2\n3 0 2 3', 'sizes of faces.*0.5'),
    (f'OFF\n6 1 0\n{VERTICES}3 0 1 2\n3 0 2 3', 'vertices.*from 3 to 4'),
    (f'OFF\n5 1 0\n{VERTICES}3 0 1', 'Faces have 3 to 3 corners, on lines'),
    (f'OFF\n5 2 0\n{VERTICES}4 0 1 2 3\n3 0 1', 'of 3 corners.*3 columns'),
    (f'OFF\n5 1 0\n{VERTICES}3 0 1 5', 'from 0 to 5, but there are 0 to 4'),
    (f'OFF\n5 1 0\n{VERTICES}3 0 1 -1', 'from -1 to 1'),
    (f'OFF\n5 1 0\n{VERTICES}-3 0 1 2', 'Faces have -3 to -3 corners'),
    (f'OFF\n5 1 0\n{VERTICES}{10**15} 0 1 2', 'on lines of at most 22'),
    (f'OFF\n5 1 0\n{VERTICES}{10**19} 0 1 2', 'could not convert'),
    (f'OFF\n5 1 0\n{VERTICES}3 0 1 x', "could not convert string 'x'"),
    (f'OFF\n5 1 0\n{VERTICES}3 0 1 1.5', "could not convert string '1.5'"),
    ('OFF\n2 1 0\n0 0\n1 1\n2 0 1', 'Vertices have 2 coordinates'),
  ],
)
def test_what_is_wrong_with_a_mesh_is_said(text, message):
  with pytest.raises(meshes.MeshError, match=message):
    off.parse(text.encode())


def sides(points, corners):
  """The three barycentric coordinates [M, 3] of points in a triangle."""
  a, b, c = corners
  basis = np.stack([b - a, c - a, np.cross(b - a, c - a)], axis=1)
  u, v, height = np.linalg.solve(basis, (points - a).T)
  return np.stack([1 - u - v, u, v], axis=-1), np.abs(height)


def test_points_are_on_the_surface_and_follow_its_areas():
  """Faces whose areas differ a thousandfold, apart in space."""
  rng = np.random.default_rng(0)
  areas = np.array([1.0, 1e-3, 0.1, 0.0, 0.5, 2.0])
  vertices, triangles = [], []
  for i, area in enumerate(areas):
    corners = rng.normal(size=(3, 3))
    size = np.linalg.norm(np.cross(*(corners[1:] - corners[0]))) / 2
    corners = corners * np.sqrt(area / size) + 100 * i
    triangles.append([3 * i, 3 * i + 1, 3 * i + 2])
    vertices.extend(corners)
  vertices, triangles = np.array(vertices), np.array(triangles)
  n = 200_000
  points = meshes.sample_surface(vertices, triangles, n, rng)
  face = np.round(points.mean(axis=1) / 100).astype(int)
  counts = np.bincount(face, minlength=len(areas))
  assert counts[3] == 0
  solid = areas > 0
  expected = n * areas[solid] / areas.sum()
  # Fails by chance for one seed in a thousand; the seed is fixed.
  assert stats.chisquare(counts[solid], expected).pvalue > 1e-3
  for i in np.flatnonzero(solid):
    inside, height = sides(points[face == i], vertices[triangles[i]])
    assert height.max() < 1e-6
    assert inside.min() > -1e-6
    # Uniform within the face: each corner's third of it, by medians' symmetry.
    nearest = np.bincount(np.argmax(inside, axis=1), minlength=3)
    assert stats.chisquare(nearest).pvalue > 1e-3


def test_the_same_seed_gives_the_same_bytes():
  vertices = np.random.default_rng(1).normal(size=(3, 3))
  triangles = np.array([[0, 1, 2]])

  def draw(seed):
    rng = np.random.default_rng(seed)
    return meshes.sample_surface(vertices, triangles, 64, rng).tobytes()

  assert draw(5) == draw(5) != draw(6)


@pytest.mark.parametrize(
  'corners',
  [
    [[0, 0, 0], [1, 0, 0], [2, 0, 0]],
    [[0, 0, 0], [1, 0, 0], [0, np.nan, 0]],
    [[0, 0, 0], [1e200, 0, 0], [0, 1e200, 0]],
  ],
)
def test_a_surface_needs_an_area(corners):
  vertices, rng = np.array(corners, float), np.random.default_rng(0)
  with pytest.raises(meshes.MeshError, match=r'an area of (0|nan|inf)'):
    meshes.sample_surface(vertices, np.array([[0, 1, 2]]), 8, rng)
  with pytest.raises(meshes.MeshError, match='0 triangles'):
    meshes.sample_surface(vertices, np.zeros((0, 3), np.int64), 8, rng)
