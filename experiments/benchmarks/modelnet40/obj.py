"""Meshes and clouds of points in OBJ, Wavefront's format.

Glossary of shapes:
- V: vertices; F: triangles.
"""

import array
from collections.abc import Iterator

import numpy as np

from experiments.benchmarks.modelnet40 import meshes
from experiments.benchmarks.modelnet40.meshes import MeshError

# Names, groups, materials, normals, textures, points and lines: no surface.
IGNORED = {
  *('bevel', 'c_interp', 'd_interp', 'g', 'l', 'lod', 'maplib', 'mg', 'mtllib'),
  *('o', 'p', 's', 'shadow_obj', 'trace_obj', 'usemap', 'usemtl'),
  *('vn', 'vp', 'vt'),
}
KEYWORDS = IGNORED | {'v', 'f'}


def parse(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads a mesh, or a cloud of points, from the content of an .obj file.

  Only vertices and faces are read; a library of materials is never opened.
  Polygons become fans of triangles about their first corner; faces of fewer
  than three corners have no area and are left out.

  Returns:
    Vertices [V, 3] float64, and triangles [F, 3] int64, counted from 0; None
    if there are no faces, as in a cloud.

  Raises:
    MeshError: says what is wrong, and in which line.
  """
  # Arrays, because a list takes 32 bytes for each number.
  coordinates = array.array('d')
  corners, sizes = array.array('q'), array.array('q')
  for number, (keyword, *words) in _statements(data):
    try:
      if keyword == 'v':
        if len(words) < 3:
          raise MeshError(f'a vertex has {len(words)} coordinates, not 3.')
        # Weights or colours may follow.
        coordinates.extend(float(word) for word in words[:3])
      elif keyword == 'f':
        count = len(coordinates) // 3
        corners.extend(_index(word, count) for word in words)
        sizes.append(len(words))
      elif keyword not in IGNORED:
        raise MeshError(f'{keyword[:20]!r} is no keyword that is read.')
    except (ValueError, OverflowError) as error:
      raise MeshError(f'In line {number}: {error}') from None
    meshes.check_count(len(coordinates) + len(corners), 'numbers')
  if not coordinates:
    raise MeshError('It has no vertices.')
  vertices = np.array(coordinates, np.float64).reshape(-1, 3)
  if not sizes:
    return vertices, None
  triangles = meshes.fans(_groups(np.array(corners), np.array(sizes)))
  meshes.check_corners(triangles, len(vertices), first=1)
  return vertices, triangles


def _statements(data: bytes) -> Iterator[tuple[int, list[str]]]:
  r"""Yields words and their line, without comments; '\' continues a line."""
  statement = ''
  for number, line in enumerate(meshes.read_lines(data), 1):
    line = line.partition('#')[0].rstrip()
    statement += line.removesuffix('\\')
    if len(statement) > meshes.MAX_LINE:
      raise MeshError(f'In line {number}: a very long statement.')
    if line.endswith('\\'):
      statement += ' '
      continue
    if words := statement.split():
      yield number, words
    statement = ''
  if words := statement.split():
    yield number, words


def _index(word: str, count: int) -> int:
  """Reads a corner, VERTEX/TEXTURE/NORMAL, after so many vertices."""
  index = int(word.partition('/')[0])
  if index == 0:
    raise MeshError('vertices are counted from 1, but there is a 0.')
  return index - 1 if index > 0 else count + index


def _groups(corners: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
  """Yields [polygons, corners] for each number of corners from three on."""
  starts = np.cumsum(sizes) - sizes
  for size in np.unique(sizes[sizes >= 3]):
    yield corners[starts[sizes == size, None] + np.arange(size)]
