"""Whatever is wrong with an archive: one clear error, or a named skip."""

import os
import random

import numpy as np
import pytest

from experiments.benchmarks.modelnet40 import (
  archives,
  layouts,
  obj,
  off,
  standin,
  stl,
)
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.benchmarks.modelnet40.meshes import MeshError, sample_surface
from tests.benchmarks.modelnet40.archives import (
  hdf5_files,
  mesh_files,
  small_hdf5,
  SOURCES,
  TINY,
  TINY_HDF5,
  write_zip,
)
from tests.benchmarks.modelnet40.test_stl import binary as stl_binary
from tests.benchmarks.modelnet40.test_stl import text as stl_text


def edit(data, rng):
  """Damages a mesh, a file or an archive as an accident would."""
  data = bytearray(data)
  match rng.choice(['cut', 'empty', 'flip', 'flips', 'zeros', 'twice']):
    case 'cut':
      del data[rng.randrange(len(data)) :]
    case 'empty':
      data.clear()
    case 'flip':
      data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    case 'flips':
      for _ in range(20):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    case 'zeros':
      start = rng.randrange(len(data))
      data[start : start + 64] = bytes(len(data[start : start + 64]))
    case 'twice':
      data *= 2
  return bytes(data)


def lie(mesh, rng):
  """Puts a false number into a mesh."""
  magic, counts, *lines = mesh.decode().replace('OFF', 'OFF\n').split('\n')[:-1]
  if not counts:
    counts, *lines = lines
  vertices, faces, edges = counts.split()
  match rng.choice(['counts', 'huge', 'negative', 'index', 'size', 'word']):
    case 'counts':
      vertices = str(int(vertices) + rng.choice([-3, -1, 1, 3]))
    case 'huge':
      faces = str(10 ** rng.randrange(6, 30))
    case 'negative':
      vertices = f'-{vertices}'
    case 'index':
      lines[-1] = f'3 0 1 {rng.choice([-1, -(10**12), 10**6, 10**25])}'
    case 'size':
      lines[-1] = f'{rng.choice([-3, 7, 10**9, 10**25])} 0 1 2'
    case 'word':
      lines[rng.randrange(len(lines))] += rng.choice(
        [' x', ' 1e', ' 1,0', ' "']
      )
  return '\n'.join([magic, f'{vertices} {faces} {edges}', *lines]).encode()


def test_300_damaged_meshes_are_errors_or_meshes():
  files = [x for name, x in mesh_files().items() if name.endswith('1.off')]
  files = [x for x in files if x.startswith(b'OFF')]
  outcomes = {'mesh': 0, 'error': 0}
  for seed in range(300):
    rng = random.Random(seed)
    damaged = rng.choice([edit, lie])(rng.choice(files), rng)
    try:
      mesh = off.parse(damaged)
      points = sample_surface(*mesh, 64, np.random.default_rng(0))
      assert np.isfinite(points).all()
      outcomes['mesh'] += 1
    except MeshError:
      outcomes['error'] += 1
  assert outcomes['error'] > 150


def as_obj(vertices, triangles):
  lines = ['v {} {} {}'.format(*vertex) for vertex in vertices]
  lines += ['f {}// {}// {}//'.format(*(corners + 1)) for corners in triangles]
  return '\n'.join(lines).encode()


FORMS = {
  'obj': (obj.parse, as_obj),
  'stl': (stl.parse, lambda *mesh: stl_binary(mesh[0][mesh[1]])),
  'text': (stl.parse, lambda *mesh: stl_text(mesh[0][mesh[1]]).encode()),
}


@pytest.mark.parametrize('form', FORMS)
def test_damaged_obj_and_stl_are_errors_or_meshes(form):
  parse, write = FORMS[form]
  rng = np.random.default_rng(0)
  files = [
    write(*off.parse(standin.mesh(kind, rng)))
    for kind in ('box', 'pyramid', 'l_shape')
  ]
  outcomes = {'mesh': 0, 'error': 0}
  for seed in range(200):
    damaged = edit(files[seed % 3], random.Random(seed))
    try:
      vertices, triangles = parse(damaged)
      if triangles is not None:  # OBJ that has lost all faces is a cloud.
        sample_surface(vertices, triangles, 64, np.random.default_rng(0))
      outcomes['mesh'] += 1
    except MeshError:
      outcomes['error'] += 1
  assert outcomes['error'] > 60


def read_all(path, dataset):
  """Reads the clouds of an archive; yields the errors of bad ones."""
  with archives.open_archive(path) as archive:
    for shape in layouts.read_archive(archive, dataset):
      try:
        assert shape.read().shape == (modelnet40.NUM_POINTS, 3)
      except ValueError as error:
        yield f'{shape.name}: {error}'


@pytest.mark.parametrize(
  ('form', 'kind'),
  [('off', 'zip'), ('hdf5', 'zip'), ('off', 'tar'), ('off', 'tgz')],
)
def test_damaged_archives_are_errors_or_named_skips(tmp_path, form, kind):
  """A hundred of each."""
  files = mesh_files({'train': 3, 'test': 3}) if form == 'off' else hdf5_files()
  path = tmp_path / 'damaged.zip'
  SOURCES[kind](path, files)
  whole = path.read_bytes()
  noticed = 0
  for seed in range(100):
    rng = random.Random(seed)
    if form == 'hdf5' and seed % 2:  # Damaged before it was packed.
      write_zip(path, hdf5_files(train=edit(small_hdf5(), rng)))
    else:
      path.write_bytes(edit(whole, rng))
    try:
      problems = list(read_all(str(path), TINY if form == 'off' else TINY_HDF5))
    except archives.ArchiveError as error:
      problems = [str(error)]
    assert all(problems)
    noticed += bool(problems)
  # Not all damage matters: dates, what stands between the entries.
  assert noticed > 50
  assert sorted(os.listdir(tmp_path)) == ['damaged.zip']
