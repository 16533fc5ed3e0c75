"""Zips, tars and folders of the same files give the same records."""

import json
import os
import pathlib
import re

import numpy as np
import pytest

from experiments import telemetry, train
from experiments.benchmarks.modelnet40 import preparation, shapes
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.benchmarks.modelnet40.archives import ArchiveError
from tests.benchmarks.modelnet40.archives import (
  hdf5_content,
  KINDS,
  mesh_files,
  SIZES,
  SOURCES,
  text_files,
  TINY,
  TINY_HDF5,
  TINY_TEXT,
  write_folder,
  write_tar,
  write_zip,
)
from tests.benchmarks.modelnet40.test_task import create, tiny

MANY = {'train': 240, 'test': 60}  # Enough for three skips to be 1 %.
TOP = 'modelnet40_ply_hdf5_2048'


def hdf5_files(dtype=np.uint8, precision=np.float32):
  """Files as published, also those that nothing reads."""
  rng = np.random.default_rng(0)
  files = {f'{TOP}/shape_names.txt': '\n'.join(KINDS).encode()}
  for split, size in SIZES.items():
    parts = [f'ply_data_{split}{i}' for i in range(2)]
    listed = [f'data/{TOP}/{part}.h5' for part in parts]
    files[f'{TOP}/{split}_files.txt'] = '\n'.join(listed).encode()
    for i, part in enumerate(parts):
      clouds = rng.normal(size=(size // 2, 2048, 3)).astype(np.float32)
      labels = np.arange(size // 2) % len(KINDS)
      content = hdf5_content(clouds.astype(precision), labels, dtype)
      files[f'{TOP}/{part}.h5'] = content
      files[f'{TOP}/ply_data_{split}_{i}_id2file.json'] = b'[]'
  return files


FILES = {'tiny': mesh_files, 'tiny_hdf5': hdf5_files, 'tiny_text': text_files}


@pytest.fixture(autouse=True)
def datasets(monkeypatch):
  added = {
    'tiny': TINY,
    'tiny_hdf5': TINY_HDF5,
    'tiny_text': TINY_TEXT,
    'many': modelnet40.Dataset('off', 'many.zip', KINDS, MANY),
  }
  monkeypatch.setattr(modelnet40, 'DATASETS', modelnet40.DATASETS | added)


def prepare(name, source, data_dir):
  return preparation.prepare(name, str(source), str(data_dir))


def prepared(name, source, data_dir):
  """Returns the records in order, and the content of the other files."""
  prepare(name, source, data_dir)
  folder = pathlib.Path(modelnet40.directory(name, str(data_dir)))
  written = {path.name: path.read_bytes() for path in folder.iterdir()}
  # array_record compresses in parallel, so its files' bytes are never the same.
  written = {k: x for k, x in written.items() if 'array_record' not in k}
  for split in SIZES:
    records = list(modelnet40.open_source(name, split, str(data_dir)))
    written[split] = [
      (record['name'], record['label'], record['points'].tobytes())
      for record in records
    ]
  return written


def with_clutter(files):
  """Adds what macOS puts beside files, in folders and in archives."""
  clutter = {}
  for name in files:
    if not name.endswith('/'):
      place, base = os.path.split(name)
      clutter[f'{place}/._{base}'] = b'\0\5\26\7'
      clutter[f'{place}/.DS_Store'] = b'\0\0\0\1Bud1'
      clutter[f'__MACOSX/{place}/._{base}'] = b'\0\5\26\7'
      clutter[f'__MACOSX/{name}'] = b'\0\5\26\7'
  return files | clutter


@pytest.mark.parametrize('name', FILES)
def test_every_source_gives_the_same_records(name, tmp_path):
  files = FILES[name]()
  zipped = write_zip(tmp_path / 'source.zip', files)
  expected = prepared(name, zipped, tmp_path / 'zip')
  assert {split: len(expected[split]) for split in SIZES} == SIZES
  for i, (kind, write) in enumerate(SOURCES.items()):
    source = write(tmp_path / f'source{i}', with_clutter(files))
    assert prepared(name, source, tmp_path / f'data{i}') == expected, kind
  # The folder above it, and names as from `tar -C FOLDER -c .`.
  (tmp_path / 'above').mkdir()
  write_folder(tmp_path / 'above' / 'folder', files)
  above = str(tmp_path / 'above')
  assert prepared(name, above, tmp_path / 'data_above') == expected
  dotted = {f'./{name}': content for name, content in files.items()}
  source = write_tar(tmp_path / 'dotted.tar', dotted)
  assert prepared(name, source, tmp_path / 'data_dotted') == expected


BAD = {
  'cone/train/cone_0003': b'OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -2',
  'box/test/box_0000': b'',
  'torus/train/torus_0011': b'OFF\n' + b'1 ' * 1000,
}


@pytest.mark.parametrize('kind', [kind for kind in SOURCES if kind != 'zip'])
def test_damaged_members_are_skipped_and_named_as_in_a_zip(kind, tmp_path):
  files = mesh_files(MANY)
  for name, content in BAD.items():
    files[f'ModelNet40/{name}.off'] = content
  expected = prepared('many', write_zip(tmp_path / 'z', files), tmp_path / 'a')
  skipped = json.loads(expected['metadata.json'])['skipped']
  assert list(skipped) == sorted(BAD)
  assert 'from -2 to 1' in skipped['cone/train/cone_0003']
  source = SOURCES[kind](tmp_path / 'source', files)
  assert prepared('many', source, tmp_path / 'b') == expected


def test_a_files_points_are_drawn_by_its_name_from_all_of_them(tmp_path):
  files = text_files()
  prepare('tiny_text', write_zip(tmp_path / 'z', files), tmp_path)
  seen = {}
  for split, size in SIZES.items():
    records = list(modelnet40.open_source('tiny_text', split, str(tmp_path)))
    assert len(records) == size
    for record in records:
      name = record['name'].decode()
      kind, there, base = name.split('/')
      assert (KINDS[record['label']], there) == (kind, split)
      content = files[f'modelnet40_normal_resampled/{kind}/{base}.txt']
      rows = [line.split(b',') for line in content.split(b'\n')]
      points = np.array(rows).astype(float)[:, :3]
      np.testing.assert_array_equal(
        record['points'], shapes.draw(points, name), err_msg=name
      )
      seen[base] = split
  listed = {
    name: split
    for split in SIZES
    for name in files[f'modelnet40_normal_resampled/tiny_{split}.txt']
    .decode()
    .split()
  }
  assert seen == listed


def test_lists_may_name_a_part_of_the_shapes(tmp_path, monkeypatch):
  """One folder has modelnet10_train.txt and modelnet40_train.txt."""
  kinds, top = ('box', 'torus'), 'modelnet40_normal_resampled'
  files = text_files()
  whole = prepare('tiny_text', write_folder(tmp_path / 'in', files), tmp_path)
  assert '12 for train, 6 for test' in whole
  for split in SIZES:
    names = files[f'{top}/tiny_{split}.txt'].decode().split()
    few = [name for name in names if name.startswith(kinds)]
    files[f'{top}/few_{split}.txt'] = '\r\n'.join(few).encode()
  few = modelnet40.Dataset('txt', '', kinds, {'train': 8, 'test': 4}, 'few')
  monkeypatch.setitem(modelnet40.DATASETS, 'few', few)
  source = write_folder(tmp_path / 'in', files)
  assert '8 for train, 4 for test' in prepare('few', source, tmp_path)
  points = {
    name: {
      record['name']: record['points'].tolist()
      for record in modelnet40.open_source(name, 'train', str(tmp_path))
    }
    for name in ('few', 'tiny_text')
  }
  assert len(points['few']) == 8
  assert points['few'].items() <= points['tiny_text'].items()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'box/box_0001.txt': None}, 'lacks files that .* lists: .*/box_0001.txt'),
    ({'tiny_test.txt': None}, 'has no tiny_test.txt'),
    ({'more/tiny_test.txt': b'box_0001'}, 'has 2 files tiny_test.txt'),
    ({'tiny_test.txt': b'../../../etc/passwd_1'}, 'lacks files .*passwd_1.txt'),
    ({'tiny_test.txt': b''}, '0 shapes for test instead of 6'),
  ],
)
def test_wrong_lists_are_one_clear_error(change, message, tmp_path):
  files = text_files()
  for name, content in change.items():
    files[f'modelnet40_normal_resampled/{name}'] = content
  files = {name: x for name, x in files.items() if x is not None}
  with pytest.raises(ValueError, match=message):
    prepare('tiny_text', write_folder(tmp_path / 'in', files), tmp_path)


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda x: x[: len(x) // 2], 'has 1251 points, fewer than 2048'),
    (lambda x: x[:-40], 'columns changed'),
    (lambda x: x.replace(b',', b';'), 'could not convert'),
    (lambda x: b'nan' + x[x.index(b',') :], 'not finite'),
    (lambda x: b'1,2\n' * 3000, '2 coordinates, not 3'),
    (lambda x: b'1,2,3\n' * 3000, 'extent 0.0'),
    (lambda x: b'\0' * 10**5, '1 points'),
    (lambda x: b'1,2,3\n' * 10**7, 'it has 60000000 bytes'),
    (lambda x: b'', 'it has 0 points'),
  ],
)
def test_damaged_texts_are_skipped_and_named(damage, message, tmp_path):
  files = text_files()
  name = 'modelnet40_normal_resampled/cone/cone_0002.txt'
  files[name] = damage(files[name])
  source = write_folder(tmp_path / 'in', files)
  # One of 18 is more than 1 %.
  with pytest.raises(preparation.PreparationError) as error:
    prepare('tiny_text', source, tmp_path)
  assert 'cone/train/cone_0002: ' in str(error.value)
  assert re.search(message, str(error.value))


@pytest.mark.parametrize(
  ('dtype', 'precision'),
  [
    (np.int64, np.float32),
    (np.int32, np.float64),
    (np.uint64, np.float64),
    ('>i2', '>f8'),
  ],
)
def test_point_sets_in_other_types_are_the_same(dtype, precision, tmp_path):
  published = write_folder(tmp_path / 'in', hdf5_files())
  expected = prepared('tiny_hdf5', published, tmp_path / 'a')
  other = write_folder(tmp_path / 'other', hdf5_files(dtype, precision))
  assert prepared('tiny_hdf5', other, tmp_path / 'b') == expected


@pytest.mark.parametrize(
  ('labels', 'dtype', 'message'),
  [
    ([0, -1], np.int64, 'labels from -1 to 0; there are 3'),
    ([0, 2**40], np.int64, 'labels from 0 to 1099511627776'),
    ([0, 2**63 + 1], np.uint64, 'labels from 0 to 9223372036854775809'),
    ([0, 1], np.float32, 'labels in float32; expected'),
  ],
)
def test_labels_are_integers_in_their_range(labels, dtype, message, tmp_path):
  clouds = np.random.default_rng(0).normal(size=(2, 2048, 3))
  files = {
    f'{TOP}/ply_data_train0.h5': hdf5_content(clouds, labels, dtype),
    f'{TOP}/shape_names.txt': '\n'.join(KINDS).encode(),
  }
  with pytest.raises(ArchiveError, match=message):
    prepare('tiny_hdf5', write_folder(tmp_path / 'in', files), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'other'),
  [('tiny', 'tgz'), ('tiny_hdf5', 'folder'), ('tiny_text', 'tar')],
)
def test_a_run_is_the_same_as_from_a_zip(name, other, tmp_path):
  """Two steps and an evaluation, to the bit."""
  results = []
  for kind in ('zip', other):
    source = SOURCES[kind](tmp_path / f'in_{kind}', FILES[name]())
    data_dir = str(tmp_path / kind)
    prepare(name, source, data_dir)
    config = {'task.dataset': name, 'train.steps': 2, 'train.log_every': 1}
    run = create(tiny(data_dir, **config))
    workdir = str(tmp_path / f'run_{kind}')
    metrics = train.train(run, workdir)
    losses = [
      record['loss']
      for record in telemetry.read_metrics(workdir)
      if record['split'] == 'train'
    ]
    assert len(losses) == 2
    assert metrics['test']['count'] == SIZES['test']
    results.append((losses, metrics['test']['loss']))
  assert results[0] == results[1]
