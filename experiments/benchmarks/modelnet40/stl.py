"""Meshes in STL, binary or text.

Glossary of shapes:
- V: vertices; F: triangles.
"""

import array

import numpy as np

from experiments.benchmarks.modelnet40 import meshes
from experiments.benchmarks.modelnet40.meshes import Mesh, MeshError

HEADER = 80  # Bytes of any content, before the number of triangles.
TRIANGLE = np.dtype(
  [('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('attribute', '<u2')]
)
FACET = ('facet', 'outer', 'vertex', 'vertex', 'vertex', 'endloop', 'endfacet')


def is_binary(data: bytes) -> bool:
  """Returns whether a file can only be binary STL, if it is STL at all.

  Its beginning does not tell: 'solid' may stand there as well.
  """
  return len(data) == _binary_size(data) or b'\0' in data[:1024]


def _binary_size(data: bytes) -> int:
  """Returns the size that the number of triangles asks for."""
  count = int.from_bytes(data[HEADER : HEADER + 4], 'little')
  return HEADER + 4 + TRIANGLE.itemsize * count


def parse(data: bytes) -> Mesh:
  """Reads a mesh from the content of an .stl file.

  Normals, attributes and names are left out. Each triangle has three vertices
  of its own.

  Returns:
    Vertices [3 F, 3] float64 and triangles [F, 3] int64.

  Raises:
    MeshError: says what is wrong, and where.
  """
  corners = _parse_binary(data) if is_binary(data) else _parse_text(data)
  vertices = corners.reshape(-1, 3)
  if not len(vertices):
    raise MeshError('0 triangles: empty.')
  return vertices, np.arange(len(vertices)).reshape(-1, 3)


def _parse_binary(data: bytes) -> np.ndarray:
  """Returns the corners of the triangles, [F, 3, 3]."""
  if len(data) != _binary_size(data):
    raise MeshError(
      f'It is no text. As binary STL it would have {_binary_size(data)} bytes,'
      f' but it has {len(data)}.'
    )
  triangles = np.frombuffer(data, TRIANGLE, offset=HEADER + 4)
  return triangles['corners'].astype(np.float64)


def _parse_text(data: bytes) -> np.ndarray:
  """Returns the coordinates of the corners, [9 F]."""
  coordinates = array.array('d')
  allowed: tuple[str, ...] = ('solid',)
  place = 0  # In the facet.
  for number, line in enumerate(meshes.read_lines(data), 1):
    if not (words := line.split()):
      continue
    keyword = words[0].lower()
    if keyword not in allowed:
      raise MeshError(
        f'In line {number}: {words[0][:20]!r} instead of {" or ".join(allowed)}'
      )
    if keyword == 'vertex':
      try:
        if len(words) != 4:
          raise MeshError(f'a vertex has {len(words) - 1} coordinates, not 3.')
        coordinates.extend(float(word) for word in words[1:])
      except ValueError as error:
        raise MeshError(f'In line {number}: {error}') from None
      meshes.check_count(len(coordinates), 'numbers')
    if keyword == 'endsolid':
      allowed = ('solid',)
      continue
    place = 0 if keyword == 'solid' else (place + 1) % len(FACET)
    allowed = (FACET[place],) if place else ('facet', 'endsolid')
  if allowed != ('solid',):
    raise MeshError(f'It ends without {allowed[-1]}.')
  return np.array(coordinates)
