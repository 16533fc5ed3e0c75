"""OBJ is read as meant, whoever wrote it; the rest is said to be wrong."""

import numpy as np
import pytest

from experiments.benchmarks.modelnet40 import meshes, obj, off, stl

VERTICES = 'v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0.5 0.5 1\n'
SQUARE = [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
  'text',
  [
    f'{VERTICES}f 1 2 3\nf 1 3 4\n',
    f'{VERTICES}f 1 2 3 4',
    f'{VERTICES}vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 3/1/1 4/1/1\n',
    f'{VERTICES}vt 0 0\nf 1/1 2/1 3/1 4/1\n',
    f'{VERTICES}vn 0 0 1\nf 1//1 2//1 3//1 4//1\n',
    f'{VERTICES}f -5 -4 -3 -2\n',
    f'{VERTICES}f -5//-1 2 -3/1/1 4\n',
    f'# by hand\n\n{VERTICES}# f 1 2 5\nf 1 2 3 4 # not 5\n',
    f'{VERTICES}f 1 2 \\\n3 4\n',
    f'{VERTICES}f \\\n1 2\\\n 3\\\n 4',
    f'# C:\\models\\\n{VERTICES}f 1 2 3 4\n',
    f'{VERTICES}f 1 2 3 4\n'.replace('\n', '\r\n'),
    f'{VERTICES}f 1 2 3 4\n'.replace('\n', '\r'),
    f'{VERTICES}f\t1  2 3\t4 \n'.replace('v ', ' v\t'),
    VERTICES.replace('0\nv', '0 1.0\nv') + 'f 1 2 3 4\n',
    VERTICES.replace('\n', ' 0.8 0.5 0\n') + 'f 1 2 3 4\n',
    f'mtllib /dev/zero\no a\ng b c\ns off\nusemtl d\n{VERTICES}f 1 2 3 4\n'
    'l 1 5\np 5\nvp 0.3\n',
    # Neither has an area.
    f'{VERTICES}f 5\nf 1 5\nf 1 2 3 4\nf\n',
    # Negative indices count from where they stand.
    'v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 1 0\nf 1 -2 -1\nv 0.5 0.5 1\n',
  ],
)
def test_the_same_square_however_it_is_written(text):
  vertices, triangles = obj.parse(text.encode())
  assert (vertices.dtype, triangles.dtype) == (np.float64, np.int64)
  assert triangles.tolist() == SQUARE
  corners = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]]
  assert vertices.tolist() == corners


def test_faces_of_all_sizes_are_kept_in_the_order_of_off():
  _, triangles = obj.parse(
    f'{VERTICES}f 1 2 3 4 5\nf 1 2 3 4\nf 1 2 5\nf 2 3 5\n'.encode()
  )
  fans = [[0, 1, 4], [1, 2, 4], *SQUARE, *SQUARE, [0, 3, 4]]
  assert triangles.tolist() == fans


def test_without_faces_it_is_a_cloud():
  vertices, triangles = obj.parse(f'{VERTICES}p 1 2 3\n'.encode())
  assert triangles is None
  assert len(vertices) == 5


def sample(text):
  mesh = obj.parse(text.encode())
  return meshes.sample_surface(*mesh, 4, np.random.default_rng(0))


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'has no vertices'),
    ('f 1 2 3', 'has no vertices'),
    ('v 0 0', 'In line 1: a vertex has 2 coordinates'),
    ('v 0 0 x', 'In line 1: could not convert'),
    ('\n# a\nv 0 0 0\nv a b c', 'In line 4: could not convert'),
    (f'{VERTICES}f 1 2 6', 'from 1 to 6, but there are 1 to 5'),
    (f'{VERTICES}f 1 2 -6', 'from 0 to 2, but there are 1 to 5'),
    (f'{VERTICES}f 1 2 0', 'In line 6: vertices are counted from 1'),
    (f'{VERTICES}f 1 2 {10**25}', 'In line 6: '),
    (f'{VERTICES}f 1 2 1.5', "In line 6: .*'1.5'"),
    (f'{VERTICES}f 1 2 /3', 'In line 6: invalid literal'),
    (f'{VERTICES}w 1 2 3', "In line 6: 'w' is no keyword"),
    (f'{VERTICES}curv 0 1 1 2 3', "'curv' is no keyword"),
    (f'{VERTICES}call /etc/passwd', "'call' is no keyword"),
    (f'{VERTICES}f 1 2\\\n', 'an area of 0'),
    ('f' + ' 1' * 2**19, 'a line of more than 1048576 characters'),
    (('f' + ' 1' * 2**18 + '\\\n') * 3, 'In line 2: a very long statement'),
  ],
)
def test_what_is_wrong_with_a_mesh_is_said(text, message):
  with pytest.raises(meshes.MeshError, match=message):
    sample(text)


def test_numbers_and_lines_are_counted_before_they_fill_the_memory(monkeypatch):
  monkeypatch.setattr(meshes, 'MAX_COUNT', 20)
  assert len(obj.parse(VERTICES.encode())[0]) == 5
  with pytest.raises(meshes.MeshError, match='more than 20 numbers'):
    obj.parse(f'{VERTICES}f 1 2 3 4 5 1\n'.encode())
  lines = '\n' * 21
  for parse, text in ((obj.parse, ''), (off.parse, 'OFF'), (stl.parse, '')):
    with pytest.raises(meshes.MeshError, match='more than 20 lines'):
      parse((text + lines).encode())
