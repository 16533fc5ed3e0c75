"""People's own meshes and clouds, and files that only claim to be some."""

import codecs
import io
import os
import pickle
import struct

import numpy as np
import pytest

from configs import modelnet40 as configs
from experiments import benchmarks
from experiments.benchmarks.modelnet40 import off, shapes
from experiments.benchmarks.modelnet40.files import read as read_file
from experiments.errors import DamagedRecordError
from tests.benchmarks.modelnet40.test_stl import binary as stl_binary
from tests.benchmarks.modelnet40.test_stl import text as stl_text


class Executed:
  """Its pickle leaves a mark where it is loaded."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


def ply(vertices, faces=(), form='binary_little_endian', count=None):
  """A file; the header may announce another count of vertices."""
  header = (
    f'ply\nformat {form} 1.0\ncomment of a test\n'
    f'element vertex {len(vertices) if count is None else count}\n'
    'property float x\nproperty double y\nproperty float z\n'
    f'element face {len(faces)}\n'
    'property list uchar int vertex_indices\nend_header\n'
  ).encode()
  if form == 'ascii':
    rows = [*vertices, *([len(face), *face] for face in faces)]
    return header + '\n'.join(' '.join(map(str, x)) for x in rows).encode()
  mark = '<' if form == 'binary_little_endian' else '>'
  rows = [struct.pack(f'{mark}fdf', *x) for x in vertices]
  rows += [
    struct.pack(f'{mark}B{len(face)}i', len(face), *face) for face in faces
  ]
  return header + b''.join(rows)


SQUARE = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
PYRAMID = [*SQUARE, (0.5, 0.5, 1)]
SIDES = [(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)]


def npy(array, **claims):
  """A file, whose header may claim other things."""
  file = io.BytesIO()
  header = np.lib.format.header_data_from_array_1_0(array) | claims
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + array.tobytes()


def test_forms_of_one_mesh_have_the_same_points(tmp_path):
  off = '\n'.join(
    ['OFF', '5 5 0', *(f'{x} {y} {z}' for x, y, z in PYRAMID)]
    + [f'{len(f)} {" ".join(map(str, f))}' for f in [*SIDES, (0, 1, 2, 3)]]
  )
  path = tmp_path / 'same.off'
  path.write_text(off)
  expected = read_file(str(path))['points']
  assert expected.shape == (2048, 3)
  path = tmp_path / 'same.ply'
  for form in ('ascii', 'binary_little_endian', 'binary_big_endian'):
    path.write_bytes(ply(PYRAMID, [*SIDES, (0, 1, 2, 3)], form))
    np.testing.assert_array_equal(read_file(str(path))['points'], expected)
    # All of one size, which are read at once.
    path.write_bytes(ply(PYRAMID, SIDES, form))
    open_below = read_file(str(path))['points']
    assert np.abs(open_below - expected).max() > 0.1
    assert np.abs(open_below).max() == 1


def test_a_mesh_has_the_same_points_in_every_form(tmp_path):
  """Where the data set has it, too, so that the names agree."""
  (tmp_path / 'box' / 'test').mkdir(parents=True)
  lines = [f'{x} {y} {z}' for x, y, z in PYRAMID]
  counts = f'{len(lines)} {len(SIDES)} 0'
  triangles = [[PYRAMID[i] for i in side] for side in SIDES]
  contents = {
    'off': '\n'.join(
      ['OFF', counts, *lines, *(f'3 {i} {j} {k}' for i, j, k in SIDES)]
    ).encode(),
    'obj': '\n'.join(
      [f'v {line}' for line in lines]
      + [f'f {i + 1} {j + 1} {k + 1}' for i, j, k in SIDES]
    ).encode(),
    'stl': stl_text(triangles).encode(),
    'STL': stl_binary(triangles, b'solid'),
    'ply': ply(PYRAMID, SIDES),
  }
  seen = {}
  for suffix, content in contents.items():
    # The suffix does not matter, and Windows marks its texts.
    mark = codecs.BOM_UTF8 if suffix in ('off', 'obj', 'stl') else b''
    path = tmp_path / 'box' / 'test' / f'box_1.{suffix}'
    path.write_bytes(mark + content)
    seen[suffix] = read_file(str(path))
    path.rename(path.with_suffix('.off'))
    other = read_file(str(path.with_suffix('.off')))
    np.testing.assert_array_equal(other['points'], seen[suffix]['points'])
  assert {record['name'] for record in seen.values()} == {'box/test/box_1'}
  expected = shapes.sample(off.parse(contents['off']), 'box/test/box_1')
  for suffix, record in seen.items():
    np.testing.assert_array_equal(record['points'], expected, suffix)


def test_text_that_is_no_mesh_is_told_from_one(tmp_path):
  path = tmp_path / 'a.obj'
  for content in (b'', b'hello world', b'{"v": 1}', b'# only', b'\xff\xfe\n'):
    path.write_bytes(content)
    with pytest.raises(DamagedRecordError, match='neither OFF, OBJ, STL, PLY'):
      read_file(str(path))


@pytest.mark.parametrize('count', [1500, 2048, 5000])
def test_forms_of_one_cloud_have_the_same_points(tmp_path, count):
  cloud = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
  forms = {
    'same.npy': npy(cloud),
    'same.ply': ply(cloud.tolist()),
    'same.obj': '\n'.join(f'v {x} {y} {z}' for x, y, z in cloud).encode(),
    'a.npy': npy(cloud.T.copy(), shape=(count, 3), fortran_order=True),
  }
  seen = {}
  for name, content in forms.items():
    (tmp_path / name).write_bytes(content)
    seen[name] = read_file(str(tmp_path / name))['points']
  np.testing.assert_array_equal(seen['same.npy'], seen['same.ply'])
  np.testing.assert_array_equal(seen['same.npy'], seen['same.obj'])
  # Their number is the model's; of more or fewer, the name tells which.
  different = len(np.unique(seen['same.npy'], axis=0))
  assert different == min(count, 2048)
  is_same = np.array_equal(seen['a.npy'], seen['same.npy'])
  assert is_same == (count == 2048)


def test_hostile_shapes_are_refused_without_being_believed(tmp_path):
  mark = tmp_path / 'executed'
  objects = np.array([Executed(mark)] * 3, object).reshape(1, 3)
  pickled = io.BytesIO()
  np.save(pickled, objects, allow_pickle=True)
  cloud = np.random.default_rng(0).normal(size=(100, 3))
  nan = cloud.copy()
  nan[70, 1] = np.nan
  whole = ply(PYRAMID, SIDES)
  in_list = ply([(1, *x) for x in PYRAMID], SIDES, 'ascii')
  in_list = in_list.replace(b'float x', b'list uchar float x')
  signed = ply(PYRAMID, [(0, 1, 2), (0, 1, 2, 3)])
  signed = signed.replace(b'list uchar int', b'list char int')
  long_list = struct.pack('<I', 2**32 - 1) + struct.pack('<3i', 0, 1, 2)
  hidden = b'comment a\rend_header\nelement vertex 1000000000000\nproperty '
  files = {
    'objects.npy': pickled.getvalue(),
    'pickle.npy': pickle.dumps(Executed(mark)),
    'claims.npy': npy(cloud, shape=(10**12, 3)),
    'negative.npy': npy(cloud, shape=(-100, 3)),
    'evil.npy': npy(cloud, descr='|O'),
    'flat.npy': npy(cloud.ravel()),
    'empty.npy': npy(cloud[:0]),
    'nan.npy': npy(nan),
    'same.npy': npy(np.ones((100, 3), np.int16)),
    'cut.npy': npy(cloud)[:-8],
    'claims.ply': ply(PYRAMID, SIDES, count=10**12),
    'claims_text.ply': ply(PYRAMID, SIDES, 'ascii', count=10**12),
    'nothing.ply': whole.replace(b'end_', b'element x 1000000000000\nend_'),
    'hidden.ply': whole.replace(b'comment of a test\n', hidden + b'float x\n'),
    'cut.ply': whole[:-3],
    'in_list.ply': in_list,
    'signed.ply': signed[:-17] + b'\xff' + signed[-16:],
    'long.ply': ply(PYRAMID, SIDES).replace(b'list uchar', b'list uint')[:-52]
    + long_list,
    'corner.ply': ply(PYRAMID, [(0, 1, 7)]),
    'flat.ply': ply(PYRAMID, [(0, 1, 1)]),
    'nan.ply': ply([(0, 0, 0), (1, float('nan'), 0)]),
    'one.ply': ply([(1, 2, 3)]),
    'no.ply': b'ply\n' + b' ' * 100_000,
    'fifo.off': None,
    'text.off': b'hello',
    'corner.obj': b'v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n',
    'library.obj': b'mtllib /dev/zero\n',
    'many.stl': b' ' * 80 + b'\xff' * 4 + b' ' * 500,
    'cut.stl': b'solid a\nfacet normal 0 0 1\n',
  }
  for name, content in files.items():
    if content is None:
      os.mkfifo(tmp_path / name)
    else:
      (tmp_path / name).write_bytes(content)
  paths = [str(tmp_path / name) for name in files]
  task = benchmarks.create(**configs.get_config('solids').task)
  read = list(task.file_reader.read(paths))
  assert [path for path, _ in read] == paths
  assert all(isinstance(error, Exception) for _, error in read)
  problems = {os.path.basename(path): str(error) for path, error in read}
  assert not mark.exists()
  for name in ('claims.npy', 'claims.ply', 'claims_text.ply', 'nothing.ply'):
    assert '1000000000000' in problems[name]
    assert 'announces' in problems[name]
  assert 'end in several ways' in problems['hidden.ply']
  assert 'not a whole PLY file' in problems['long.ply']
  assert 'lists of coordinates' in problems['in_list.ply']
