"""Prepared data is read from a store of objects, see emulator.py."""

import numpy as np
import pytest

from experiments import storage
from experiments.benchmarks.audioset import source as audioset
from experiments.benchmarks.imagenet import source as imagenet
from experiments.benchmarks.modelnet40 import preparation
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.errors import DataNotFoundError
from tests.benchmarks.audioset.test_source import record, write_prepared
from tests.benchmarks.modelnet40.archives import mesh_files, TINY, write_zip


def put(store, folder):
  """Copies a folder of data to the store; returns its URL."""
  for path in folder.rglob('*'):
    if path.is_file():
      target = store.url(f'data/{path.relative_to(folder)}')
      storage.write(storage.path(target), path.read_bytes())
  return store.url('data')


def test_imagenet_is_read_there(store, mini_imagenet_dir):
  here = str(mini_imagenet_dir / 'tfds')
  data_dir = put(store, mini_imagenet_dir / 'tfds')
  options = {'num_examples': 24, 'num_classes': 12}
  local = imagenet.open_source(here, 'train', **options)
  there = imagenet.open_source(data_dir, 'train', **options)
  assert [there[i] for i in (0, 23)] == [local[i] for i in (0, 23)]
  assert imagenet.classes(data_dir, 12) == imagenet.classes(here, 12)
  with pytest.raises(DataNotFoundError, match=r"at data.dir='gs://runs/none'"):
    imagenet.open_source(store.url('none'), 'train', **options)


def test_audioset_is_read_there(store, tmp_path):
  write_prepared(tmp_path, 1, {'a': 2})
  options = {'num_examples': 2, 'num_classes': 1}
  source = audioset.open_source(put(store, tmp_path), 'train', **options)
  assert source[1]['frames'][59] == record(1)['frames'][59]
  np.testing.assert_array_equal(source[1]['audio'], record(1)['audio'])
  storage.path(source.paths[0]).unlink()
  with pytest.raises(DataNotFoundError, match='lacks 1 of its files'):
    audioset.open_source(store.url('data'), 'train', **options)
  with pytest.raises(DataNotFoundError, match=r"at data.dir='gs://runs/none'"):
    audioset.open_source(store.url('none'), 'train', **options)


def test_point_clouds_are_read_there(store, tmp_path, monkeypatch):
  monkeypatch.setitem(modelnet40.DATASETS, 'tiny', TINY)
  archive = write_zip(tmp_path / 'tiny.zip', mesh_files())
  with pytest.raises(OSError, match='Write to a disk, and copy that'):
    preparation.prepare('tiny', archive, store.url('data'))
  preparation.prepare('tiny', archive, str(tmp_path / 'data'))
  data_dir = put(store, tmp_path / 'data')
  ours = modelnet40.open_source('tiny', 'test', str(tmp_path / 'data'))[0]
  there = modelnet40.open_source('tiny', 'test', data_dir)[0]
  np.testing.assert_array_equal(there['points'], ours['points'])
  with pytest.raises(DataNotFoundError, match="'tiny' at gs://runs/none"):
    modelnet40.open_source('tiny', 'test', store.url('none'))
