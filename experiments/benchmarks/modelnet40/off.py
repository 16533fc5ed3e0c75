"""Meshes in OFF, the Object File Format.

Glossary of shapes:
- V: vertices; F: triangles.
"""

import re

import numpy as np

from experiments.benchmarks.modelnet40.meshes import (
  check_corners,
  check_count,
  fans,
  Mesh,
  MeshError,
)


def parse(data: bytes) -> Mesh:
  """Reads a mesh from the content of an .off file in text form.

  The file may have comments, blank lines, colours after the corners of a face,
  and counts on the line of the magic word ('OFF490 518 0', as in many files of
  ModelNet40). Polygons become fans of triangles about their first corner; faces
  of fewer than three corners have no area and are left out.

  Returns:
    Vertices [V, 3] float64 and triangles [F, 3] int64, indices of vertices.

  Raises:
    MeshError: says what is wrong, and where.
  """
  text = data.decode('latin-1').replace('\r', '\n')
  check_count(text.count('\n'), 'lines')  # Each becomes a string.
  lines = [
    stripped
    for line in text.split('\n')
    if (stripped := line.partition('#')[0].strip())
  ]
  num_vertices, num_faces, lines = _read_header(lines)
  # Checked before anything is allocated: no count is larger than the file.
  if num_vertices + num_faces != len(lines):
    raise MeshError(
      f'The header announces {num_vertices} vertices and {num_faces} faces,'
      f' but {len(lines)} lines follow it.'
    )
  if not num_vertices or not num_faces:
    raise MeshError(f'{num_vertices} vertices and {num_faces} faces: empty.')
  vertices = _read_table('vertices', lines[:num_vertices], np.float64)
  if vertices.shape[1] < 3:
    raise MeshError(f'Vertices have {vertices.shape[1]} coordinates, not 3.')
  triangles = _read_triangles(lines[num_vertices:])
  check_corners(triangles, num_vertices)
  return vertices[:, :3], triangles


def _read_header(lines: list[str]) -> tuple[int, int, list[str]]:
  """Returns the numbers of vertices and of faces, and the lines after them."""
  if not lines or not lines[0].startswith('OFF'):
    start = lines[0][:20] if lines else ''
    raise MeshError(f'It does not start with OFF but with {start!r}.')
  counts, rest = lines[0][3:].strip(), lines[1:]
  if not counts and rest:
    counts, rest = rest[0], rest[1:]
  # The third count, of edges, is never needed, and some writers leave it out.
  match = re.fullmatch(r'(\d{1,18})\s+(\d{1,18})(\s+\S+)?', counts, re.ASCII)
  if not match:
    raise MeshError(f'{counts[:40]!r} are not counts of vertices and faces.')
  return int(match[1]), int(match[2]), rest


def _read_triangles(lines: list[str]) -> np.ndarray:
  """Reads [F, 3] from one line for each polygon: its size, then its corners."""
  sizes = _read_table('sizes of faces', lines, np.int64, columns=[0])[:, 0]
  longest = max(map(len, lines))
  if sizes.min() < 0 or 2 * sizes.max() > longest:
    raise MeshError(
      f'Faces have {sizes.min()} to {sizes.max()} corners, on lines of at most'
      f' {longest} characters.'
    )
  rows = np.array(lines, object)
  return fans(
    _read_table(
      f'faces of {size} corners',
      rows[sizes == size].tolist(),
      np.int64,
      columns=range(1, size + 1),
    )
    for size in np.unique(sizes[sizes >= 3])
  )


def _read_table(what, lines, dtype, columns=None) -> np.ndarray:
  """Reads [lines, columns]: some columns of all lines; None: all columns."""
  try:
    return np.loadtxt(lines, dtype, usecols=columns, ndmin=2)
  except ValueError as error:
    raise MeshError(f'In the {what}: {error}') from None


def write(vertices: np.ndarray, faces: list[list[int]], header: str) -> bytes:
  """Returns an .off file; `header` is what stands before the counts."""
  lines = [f'{header}{len(vertices)} {len(faces)} 0']
  lines += [' '.join(f'{x:.6f}' for x in vertex) for vertex in vertices]
  lines += [' '.join(map(str, [len(face), *face])) for face in faces]
  return ('\n'.join(lines) + '\n').encode()
