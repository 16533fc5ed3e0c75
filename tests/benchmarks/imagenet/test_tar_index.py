"""Tar shards are indexed once, and again whenever they change."""

import concurrent.futures
import io
import multiprocessing
import os

import numpy as np
import pytest

from experiments.benchmarks.imagenet import standin_shards
from experiments.benchmarks.imagenet.tars import index
from tests.benchmarks.imagenet.tar_files import (
  contents,
  EXPECTED,
  indices,
  MEMBERS,
  open_source,
  write,
)


def test_an_index_is_made_once(tmp_path, monkeypatch):
  write(tmp_path)
  made = contents(open_source(tmp_path))
  assert len(indices(tmp_path)) == 1
  monkeypatch.setattr(index, '_index', None)
  assert contents(open_source(tmp_path)) == made == EXPECTED


@pytest.mark.parametrize('change', ['content', 'name', 'number', 'time'])
def test_changed_shards_are_indexed_again(tmp_path, change):
  path = write(tmp_path)
  open_source(tmp_path)
  before = indices(tmp_path)
  expected = EXPECTED
  if change == 'content':
    write(tmp_path, [('new.jpg', b'N'), ('new.cls', b'0'), *MEMBERS[2:]])
    expected = [('new.jpg', b'N', 0), EXPECTED[1]]
    os.utime(path, ns=(1, 1))
  elif change == 'name':
    path.rename(tmp_path / 'train-0.tar')
  elif change == 'number':
    write(tmp_path, name='imagenet-train-000001.tar')
    expected = EXPECTED * 2
  else:
    os.utime(path, ns=(1, 1))
  assert contents(open_source(tmp_path, len(expected))) == expected
  after = indices(tmp_path)
  assert len(after) == 1
  assert after != before


def as_index(array):
  stream = io.BytesIO()
  np.save(stream, array, allow_pickle=array.dtype.hasobject)
  return stream.getvalue()


def changed_field(field, value):
  def change(content):
    array = np.load(io.BytesIO(content))
    array[field][1] = value
    return as_index(array)

  return change


@pytest.mark.parametrize(
  'change',
  [
    lambda content: content[:-1],
    lambda content: b'',
    lambda content: content.replace(b'(2,)', b'(9999999999,)'),
    lambda content: as_index(np.array([{}, print], object)),
    lambda content: as_index(np.zeros(2)),
    lambda content: as_index(np.load(io.BytesIO(content))[:0]),
    changed_field('shard', 1),
    changed_field('shard', -1),
    changed_field('offset', 2**62),
    changed_field('offset', -1),
    changed_field('size', 2**62),
  ],
)
def test_a_damaged_index_is_made_again(tmp_path, change):
  write(tmp_path)
  open_source(tmp_path)
  (name,) = indices(tmp_path)
  content = (tmp_path / name).read_bytes()
  damaged = change(content)
  assert damaged != content
  (tmp_path / name).write_bytes(damaged)
  assert contents(open_source(tmp_path)) == EXPECTED
  assert (tmp_path / name).read_bytes() == content


@pytest.fixture
def read_only(monkeypatch):
  """Makes a folder read-only, also for root."""

  def make(folder):
    access = os.access
    monkeypatch.setattr(
      os,
      'access',
      lambda path, mode: path != str(folder) and access(path, mode),
    )

  return make


def test_an_index_of_read_only_shards_is_in_the_cache(
  tmp_path, monkeypatch, read_only
):
  (tmp_path / 'data').mkdir()
  write(tmp_path / 'data')
  read_only(tmp_path / 'data')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  assert contents(open_source(tmp_path / 'data')) == EXPECTED
  assert indices(tmp_path / 'data') == []
  assert len(indices(tmp_path / 'cache' / 'perceiver')) == 1
  monkeypatch.setattr(index, '_index', None)
  assert contents(open_source(tmp_path / 'data')) == EXPECTED


def test_an_index_that_cannot_be_written_is_one_error(
  tmp_path, monkeypatch, read_only
):
  (tmp_path / 'data').mkdir()
  write(tmp_path / 'data')
  read_only(tmp_path / 'data')
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(
    OSError, match=r'train-index-\w+\.npy cannot be written: '
  ):
    open_source(tmp_path / 'data')


def open_contents(folder):
  return contents(open_source(folder, 200))


@pytest.mark.slow
def test_processes_may_index_at_once(tmp_path):
  images = [
    {'name': f'{i}.jpg', 'jpeg': b'%d' % i, 'label': i % 2} for i in range(200)
  ]
  standin_shards.write_tars(str(tmp_path), 'train', images, 20)
  with concurrent.futures.ProcessPoolExecutor(
    4, mp_context=multiprocessing.get_context('spawn')
  ) as pool:
    found = list(pool.map(open_contents, [tmp_path] * 8))
  assert found == [[(x['name'], x['jpeg'], x['label']) for x in images]] * 8
  assert len(indices(tmp_path)) == 1
  assert {path.suffix for path in tmp_path.iterdir()} == {'.tar', '.npy'}
