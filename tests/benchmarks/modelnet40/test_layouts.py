"""The shapes of each layout are found, and read as they are meant."""

import re

import numpy as np
import pytest

from configs import modelnet40 as configs
from experiments import benchmarks
from experiments.benchmarks.modelnet40 import (
  archives,
  layouts,
  preparation,
  shapes,
)
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.benchmarks.modelnet40.archives import ArchiveError
from tests.benchmarks.modelnet40.archives import (
  hdf5_content,
  KINDS,
  prepare,
  prepared,
  published_hdf5_files,
  SIZES,
  text_files,
  write_folder,
  write_zip,
)


def published(name):
  """Names of the files of a set, as it is published, by content."""
  dataset = modelnet40.get(name)
  top = dataset.archive.removesuffix('.zip')
  files = {f'{top}/README.txt': b'', f'__MACOSX/{top}/._README.txt': b''}
  number = 0
  for split, size in dataset.sizes.items():
    names = []
    for _ in range(size):
      number += 1
      category = dataset.categories[number % len(dataset.categories)]
      names.append(f'{category}_{number:04}')
      if dataset.form == 'off':
        files[f'{top}/{category}/{split}/{names[-1]}.off'] = b''
      else:
        files[f'{top}/{category}/{names[-1]}.txt'] = b''
    if dataset.lists:
      content = ''.join(f'{x}\n' for x in names).encode()
      files[f'{top}/{dataset.lists}_{split}.txt'] = content
  return files


@pytest.mark.parametrize(
  'name',
  [
    'modelnet10',
    'modelnet40_normal_resampled',
    'modelnet10_normal_resampled',
  ],
)
def test_each_published_set_is_whole(name, tmp_path):
  dataset = modelnet40.get(name)
  assert list(dataset.categories) == sorted(dataset.categories)
  assert set(dataset.categories) <= set(modelnet40.CATEGORIES)
  source = write_zip(tmp_path / 'source.zip', published(name))
  with archives.open_archive(source) as archive:
    found = layouts.read_archive(archive, dataset)
  assert preparation.differences(found, dataset) == []
  few = 'modelnet10' in name
  assert len(dataset.categories) == (10 if few else 40)
  assert len(found) == (3991 + 908 if few else 9843 + 2468)
  stand = next(x for x in found if x.name.startswith('night_stand/train'))
  assert re.fullmatch(r'night_stand/train/night_stand_\d{4}', stand.name)
  config = configs.get_config(
    name.replace('modelnet40_', '').replace('normal_', '')
  )
  assert config.task.dataset == name
  assert benchmarks.create(**config.task).class_names(None) == (
    dataset.categories
  )


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
  published = write_folder(tmp_path / 'in', published_hdf5_files())
  expected = prepared('tiny_hdf5', published, tmp_path / 'a')
  other = write_folder(
    tmp_path / 'other', published_hdf5_files(dtype, precision)
  )
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
    'ply_data_train0.h5': hdf5_content(clouds, labels, dtype),
    'shape_names.txt': '\n'.join(KINDS).encode(),
  }
  with pytest.raises(ArchiveError, match=message):
    prepare('tiny_hdf5', write_folder(tmp_path / 'in', files), tmp_path)
