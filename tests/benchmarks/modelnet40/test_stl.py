"""STL in both forms is read as meant; the rest is said to be wrong."""

import struct

import numpy as np
import pytest

from experiments.benchmarks.modelnet40 import meshes, stl

TRIANGLES = [
  [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
  [[0, 0, 0], [1, 1, 0], [0, 1, 0.5]],
]


def facet(corners):
  lines = ['facet normal 0 0 1', 'outer loop']
  lines += [f'  vertex {x} {y} {z}' for x, y, z in corners]
  return '\n'.join([*lines, 'endloop', 'endfacet']) + '\n'


def text(triangles, name='square'):
  return f'solid {name}\n{"".join(map(facet, triangles))}endsolid {name}\n'


def binary(triangles, header=b'made by a test', count=None):
  number = len(triangles) if count is None else count
  content = header.ljust(80, b' ') + struct.pack('<I', number)
  for corners in triangles:
    # The attribute's two bytes are a colour for some.
    values = [0, 0, 1, *np.ravel(corners)]
    content += struct.pack('<12fH', *values, 0x7FFF)
  return content


WHOLE = text(TRIANGLES)


@pytest.mark.parametrize(
  'content',
  [
    WHOLE,
    WHOLE.upper().replace('E ', 'e '),
    WHOLE.replace('\n', '\r\n'),
    WHOLE.replace('\n', '\r'),
    WHOLE.replace('  vertex', '\t\tvertex').replace('facet n', '  facet n'),
    WHOLE.replace(' square', ''),
    WHOLE.replace('square', 'vertex 1 2 3'),
    WHOLE.replace('square', 'x' * 100),
    WHOLE.replace('1 1 0', '1.0E+00 +1e0 -0'),
    WHOLE.replace('facet normal 0 0 1', '\n\nfacet normal nan nan nan'),
    text(TRIANGLES[:1]) + text(TRIANGLES[1:], 'other'),
    text([]) + WHOLE,
    binary(TRIANGLES),
    binary(TRIANGLES, b'solid square'),
    binary(TRIANGLES, b'solid square\nfacet normal 0 0 1\n'),
    binary(TRIANGLES, b'\0' * 80),
  ],
)
def test_the_same_triangles_however_they_are_written(content):
  data = content.encode() if isinstance(content, str) else content
  vertices, triangles = stl.parse(data)
  assert (vertices.dtype, triangles.dtype) == (np.float64, np.int64)
  assert vertices[triangles].tolist() == TRIANGLES


def sample(data):
  mesh = stl.parse(data)
  return meshes.sample_surface(*mesh, 4, np.random.default_rng(0))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('', '0 triangles: empty'),
    (text([]), '0 triangles: empty'),
    (binary([]), '0 triangles: empty'),
    ('hello', "In line 1: 'hello' instead of solid"),
    (WHOLE[: WHOLE.index('endsolid')], 'ends without endsolid'),
    (WHOLE[: WHOLE.index('endloop')], 'ends without endloop'),
    (WHOLE.replace('endloop\n', '', 1), "'endfacet' instead of endloop"),
    (WHOLE.replace('vertex 1 1 0\n', '', 1), "'endloop' instead of vertex"),
    (WHOLE.replace('1 1 0', '1 1'), 'In line 6: a vertex has 2 coordinates'),
    (WHOLE.replace('1 1 0', '1 1 0 0'), 'In line 6: a vertex has 4 coordin'),
    (WHOLE.replace('1 1 0', '1 1 x'), 'In line 6: could not convert'),
    (WHOLE + 'more', "'more' instead of solid"),
    (f'solid {"x" * 2**20}', 'a line of more than 1048576 characters'),
    (binary(TRIANGLES)[:-1], r'would have 184 bytes, but it has 183'),
    (binary(TRIANGLES) + b'\0', r'would have 184 bytes, but it has 185'),
    (binary(TRIANGLES, count=2**32 - 1), '214748364834 bytes, but it has 184'),
    (binary(TRIANGLES, b'solid a')[:-50], r'would have 184 bytes'),
    (b'solid\0', 'would have 84 bytes, but it has 6'),
    (binary([[[0, 0, 0], [1, 1, 1], [2, 2, 2]]]), 'an area of 0'),
    (binary([[[0, 0, 0], [1, 1, 1], [2, np.nan, 2]]]), 'an area of nan'),
    (text([[[0, 0, 0], [1, 1, 1], [2, 'inf', 2]]]), 'an area of (nan|inf)'),
  ],
)
def test_what_is_wrong_with_a_mesh_is_said(content, message):
  data = content.encode() if isinstance(content, str) else content
  with pytest.raises(meshes.MeshError, match=message):
    sample(data)
