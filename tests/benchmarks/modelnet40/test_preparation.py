"""Only whole data sets are prepared, and only whole ones are left."""

import functools
import io
import json
import os
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from experiments.benchmarks.modelnet40 import archives, hdf5, preparation
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.errors import DataNotFoundError
from tests.benchmarks.modelnet40.archives import (
  hdf5_content,
  hdf5_files,
  MANY,
  mesh_files,
  write_zip,
)
from tests.conftest import ROOT


def tree(folder):
  return sorted(str(path) for path in folder.rglob('*'))


def prepare(name, tmp_path, files):
  """Prepares an archive with these files; no other file may stay."""
  folder = tmp_path / 'in'
  folder.mkdir(exist_ok=True)
  source = write_zip(folder / 'source.zip', files)
  data_dir = folder / 'data'
  before = tree(tmp_path)
  try:
    return preparation.prepare(name, source, str(data_dir))
  finally:
    after = [x for x in tree(tmp_path) if not x.startswith(str(data_dir))]
    assert after == before
    assert not list(data_dir.rglob('incomplete*'))


def sizes(tmp_path, name):
  data_dir = str(tmp_path / 'in' / 'data')
  return {
    split: len(modelnet40.open_source(name, split, data_dir))
    for split in ('train', 'test')
  }


def test_bad_meshes_are_skipped_and_named(tmp_path, caplog):
  files = mesh_files(MANY)
  bad = {
    'cone/train/cone_0003': b'OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -2',
    'box/test/box_0000': b'',
    'torus/train/torus_0011': b'OFF\n' + b' ' * 10**7,
  }
  for name, content in bad.items():
    files[f'ModelNet40/{name}.off'] = content
  told = prepare('many', tmp_path, files)
  assert '238 for train, 59 for test; 3 skipped' in told
  assert sizes(tmp_path, 'many') == {'train': 238, 'test': 59}
  folder = modelnet40.directory('many', str(tmp_path / 'in' / 'data'))
  with open(os.path.join(folder, 'metadata.json')) as file:
    skipped = json.load(file)['skipped']
  assert set(skipped) == set(bad)
  assert 'from -2 to 1' in skipped['cone/train/cone_0003']
  assert 'claims 10000004 bytes' in skipped['torus/train/torus_0011']  # A bomb.
  for name in bad:
    assert f'Skipped {name}' in caplog.text
  # A fourth is too many, and leaves nothing.
  (tmp_path / 'again').mkdir()
  files['ModelNet40/box/test/box_0001.off'] = b'no mesh'
  with pytest.raises(preparation.PreparationError, match='4 of 300 shapes'):
    prepare('many', tmp_path / 'again', files)
  assert not os.path.exists(
    modelnet40.directory('many', str(tmp_path / 'again' / 'in' / 'data'))
  )


def link():
  info = zipfile.ZipInfo('ModelNet40/box/train/link.off')
  info.external_attr = (stat.S_IFLNK | 0o777) << 16
  return {info: '/etc/passwd'}


def without(files, part):
  return {name: x for name, x in files.items() if part not in name}


@pytest.mark.parametrize(
  ('name', 'files', 'message'),
  [
    ('tiny', {'../box.off': b''}, "entry '../box.off' leads out"),
    ('tiny', {'a/../../box.off': b''}, 'leads out of the archive'),
    ('tiny', {'..\\box.off': b''}, 'leads out of the archive'),
    ('tiny', {'/etc/box.off': b''}, 'has an absolute name'),
    ('tiny', {'C:\\box.off': b''}, 'has an absolute name'),
    ('tiny', link(), 'is a link'),
    ('tiny', {}, 'has no meshes.*it has no files'),
    (
      'tiny',
      {f'box/train/{i}.{x}': b'' for i in range(3) for x in ('obj', 'ply')},
      "it has 3 .obj, 3 .ply, the first one 'box/train/0.obj'",
    ),
    ('tiny', hdf5_files(), 'has no meshes .*ply_data_test0.h5'),
    ('tiny_hdf5', mesh_files(), 'has no point sets'),
    (
      'tiny',
      without(mesh_files(), '/cone/'),
      'no shapes of cone; 8 shapes for tr',
    ),
    (
      'tiny',
      without(mesh_files(), 's_0000')
      | {'more/box/test/box_0000.off': b'', 'more/box/train/box_0000.off': b''},
      'several shapes of one name: box/test/box_0000, box/train/box_0000',
    ),
    (
      'tiny',
      without(mesh_files(), 'x_0000'),
      '11 shapes for train instead of 12',
    ),
    (
      'tiny',
      mesh_files() | {'ModelNet40/cup/test/cup_1.off': b''},
      'unknown classes: cup; 7 shapes for test instead of 6',
    ),
    ('tiny_hdf5', hdf5_files(), 'no shapes of torus; 2 shapes for train'),
    (
      'tiny_hdf5',
      hdf5_files(train=hdf5_content(np.zeros((2, 100, 3), 'f'), [0, 1])),
      r'data \(2, 100, 3\)',
    ),
    (
      'tiny_hdf5',
      hdf5_files(train=hdf5_content(np.zeros((1, 2048, 3), 'f'), [7])),
      'labels from 7 to 7; there are 3 classes',
    ),
    ('tiny_hdf5', without(hdf5_files(), 'names'), 'has no shape_names.txt'),
    ('tiny_hdf5', hdf5_files(train=b'HDF'), '0.h5: it is not a whole HDF5'),
  ],
)
def test_a_wrong_archive_is_one_clear_error(tmp_path, name, files, message):
  with pytest.raises(ValueError, match=message):
    prepare(name, tmp_path, files)
  with pytest.raises(DataNotFoundError, match='prepare_modelnet40'):
    sizes(tmp_path, name)


def test_archives_that_are_none(tmp_path):
  with pytest.raises(FileNotFoundError, match='There is no file or folder'):
    preparation.prepare('tiny', str(tmp_path / 'absent.zip'), str(tmp_path))
  (tmp_path / 'text.zip').write_text('404 Not Found')
  with pytest.raises(archives.ArchiveError, match=r'not a whole zip .*404'):
    preparation.prepare('tiny', str(tmp_path / 'text.zip'), str(tmp_path))


def test_suffixes_may_be_in_upper_case(tmp_path):
  files = {name.replace('.off', '.OFF'): x for name, x in mesh_files().items()}
  assert '12 for train, 6 for test' in prepare('tiny', tmp_path, files)


def test_a_file_that_points_at_others_is_refused():
  import h5py

  buffer = io.BytesIO()
  with h5py.File(buffer, 'w') as file:
    file['data'] = h5py.ExternalLink('/etc/other.h5', '/data')
    file['label'] = np.zeros((1, 1), np.uint8)
  with pytest.raises(archives.ArchiveError):
    hdf5.read(buffer.getvalue(), 1)
  buffer = io.BytesIO()
  with h5py.File(buffer, 'w') as file:
    file.create_dataset(
      'data', (1, 2048, 3), 'f', external=[('/etc/passwd', 0, 24576)]
    )
    file['label'] = np.zeros((1, 1), np.uint8)
  with pytest.raises(archives.ArchiveError, match='not an array in the file'):
    hdf5.read(buffer.getvalue(), 1)


@pytest.mark.slow
def test_killed_while_it_prepares_it_starts_anew(tmp_path):
  source = tmp_path / 'solids.zip'
  subprocess.run(
    [sys.executable, '-m', 'scripts.generate_solids', f'--output={source}'],
    cwd=ROOT,
    check=True,
    stdout=subprocess.DEVNULL,
  )
  command = [
    *(sys.executable, '-m', 'scripts.prepare_modelnet40', '--dataset=solids'),
    *(f'--source={source}', f'--data_dir={tmp_path}'),
  ]
  run = functools.partial(
    subprocess.run, command, cwd=ROOT, capture_output=True, text=True
  )
  parent = tmp_path / 'point_clouds' / 'solids'
  process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 60
  while not list(parent.glob('incomplete.*')) and time.monotonic() < deadline:
    time.sleep(0.005)
  process.kill()
  process.wait()
  (left,) = parent.iterdir()
  assert left.name.startswith('incomplete.')
  with pytest.raises(DataNotFoundError):
    modelnet40.open_source('solids', 'train', str(tmp_path))
  assert '720 for train, 2,004 for test; 0 skipped' in run().stdout
  assert [path.name for path in parent.iterdir()] == [modelnet40.VERSION]
  assert len(modelnet40.open_source('solids', 'train', str(tmp_path))) == 720
  # Once it is there, it is left alone.
  assert 'is prepared already' in run().stdout
