"""Shards give the bytes of one preparation; an error is one line."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from experiments.benchmarks.audioset import clips as audioset_clips
from experiments.benchmarks.audioset import parts, preparation, source
from experiments.benchmarks.audioset.preparation import PreparationError
from experiments.errors import DataNotFoundError
from scripts import prepare_audioset
from tests.benchmarks.audioset.test_preparation import (
  OPEN,
  prepare,
  prepare_until,
  short_clips,
  write_sources,
)
from tests.conftest import ROOT
from tests.torture import preparing


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
  """Seven clips and one that is damaged: three files of train, two of eval."""
  folder = tmp_path_factory.mktemp('sources')
  write_sources(folder, short_clips(7) | {'damaged0000.mkv': b'no video'})
  return folder


@pytest.fixture(scope='module')
def whole(sources):
  """Content of all files that are prepared in one go."""
  prepare_shard(sources)
  path = source.directory(str(sources / 'data'))
  found = contents(path)
  assert len(found) == 5 + 2
  shutil.rmtree(path)
  return found


@pytest.fixture
def begun(sources):
  """The directory to prepare in; it is removed afterwards."""
  yield pathlib.Path(source.incomplete_directory(str(sources / 'data')))
  shutil.rmtree(sources / 'data')


def prepare_shard(sources, shard=None):
  return prepare(sources, clips_per_file=2, shard=shard)


def contents(folder):
  paths = pathlib.Path(folder).rglob('*')
  return {str(x.relative_to(folder)): x.read_bytes() for x in paths}


def finish(sources):
  """The last step; returns the content of what is there then."""
  told = prepare_shard(sources)
  assert '1 files skipped' in told
  assert [x.name for x in (sources / 'data/audioset').iterdir()] == ['1.0.0']
  return contents(source.directory(str(sources / 'data')))


def test_shards_are_the_whole_in_any_order(sources, whole, begun):
  told = prepare_shard(sources, (1, 2))
  assert 'shard 1 of 2 is done, 2 files of 5.' in told
  with pytest.raises(DataNotFoundError, match='half prepared'):
    source.open_source(str(sources / 'data'), 'train', **OPEN)
  # A shard of another data set ends, and no other shard with it.
  with pytest.raises(PreparationError, match=r'other clips or CSVs .* number'):
    prepare(sources, clips_per_file=3, shard=(0, 2))
  # Again; and more than there are files.
  assert '2 files of 5' in prepare_shard(sources, (1, 2))
  assert '0 files of 5' in prepare_shard(sources, (7, 9))
  assert '3 files of 5' in prepare_shard(sources, (0, 2))
  assert len(list(begun.glob('*.array_record'))) == 5
  assert finish(sources) == whole


@pytest.mark.slow
def test_what_is_damaged_is_made_again(sources, whole, begun):
  prepare_until(sources, parts, 'join', clips_per_file=2)
  # As a power failure leaves it.
  some = sorted(begun.glob('parts/train-???????'))[0]
  content = some.read_bytes()
  for damage in (b'', content[:70_000], bytes(len(content))):
    some.write_bytes(damage)
    with pytest.raises(PreparationError, match=f'{some.name} was damaged'):
      prepare_shard(sources, (0, 5))
    prepare_until(sources, parts, 'join', clips_per_file=2, shard=(0, 5))
  for number, damage in enumerate((b'', content[:70_000])):
    prepare_shard(sources, (0, 1))
    file = sorted(begun.glob('*.array_record'))[number]
    file.write_bytes(damage)
    with pytest.raises(PreparationError, match=f'first one .*{file.name}'):
      prepare_shard(sources)
  assert finish(sources) == whole


def test_another_may_have_done_it_meanwhile(
  sources, whole, begun, monkeypatch, tmp_path
):
  run = preparation._run

  def run_late(*args):
    monkeypatch.undo()
    assert finish(sources) == whole
    run(*args)

  monkeypatch.setattr(preparation, '_run', run_late)
  assert 'is prepared already' in prepare_shard(sources, (0, 2))
  # Or the file alone, of which the parts are removed.
  (tmp_path / 'file').touch()
  gone = [str(tmp_path / 'part')]
  parts.join(parts.File(str(tmp_path / 'file'), 'train', [], gone))
  with pytest.raises(PreparationError, match='damaged'):
    parts.join(parts.File(str(tmp_path / 'none'), 'train', [], gone))
  assert [x.name for x in tmp_path.iterdir()] == ['file']


def test_clips_that_are_gone_are_not_skipped(
  sources, whole, begun, monkeypatch
):
  clips = sources / 'clips'

  def lose(*args):
    begin(*args)
    clips.rename(sources / 'elsewhere')

  begin = preparation._begin
  with monkeypatch.context() as patch:
    patch.setattr(preparation, '_begin', lose)
    with pytest.raises(FileNotFoundError, match=r'mkv is gone, .* goes on'):
      prepare_shard(sources)
  with pytest.raises(FileNotFoundError, match='no directory'):
    prepare_shard(sources)
  (sources / 'elsewhere').rename(clips)
  assert finish(sources) == whole
  with pytest.raises(FileNotFoundError):
    audioset_clips.make_plan(str(sources / 'none'), [])


COMMAND = [sys.executable, '-m', 'scripts.prepare_audioset', '--processes=1']


@pytest.mark.slow
def test_a_full_disk_is_one_line(sources, whole, begun):
  result = subprocess.run(
    [
      # `preexec_fn` would do so as well, but JAX warns of forks.
      *('bash', '-c', 'ulimit -f 9 && exec "$@"', 'bash', *COMMAND),
      f'--clips={sources}/clips',
      f'--csv={sources}',
      f'--data_dir={sources}/data',
      '--clips_per_file=2',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  assert 'Traceback' not in result.stderr
  last = result.stderr.splitlines()[-1]
  assert last.startswith(f'Error: {begun}/parts/')
  assert 'cannot be written' in last
  assert 'File too large' in last
  assert last.endswith('When it can be, the same command goes on.')
  assert not list(begun.rglob('*.tmp')) + list(begun.glob('parts/*-???????'))
  assert finish(sources) == whole


def test_a_place_that_cannot_be_written_is_named(sources, tmp_path):
  (tmp_path / 'data').touch()
  with pytest.raises(OSError, match=r'incomplete-1\.0\.0 cannot .* --data_dir'):
    preparation.prepare(
      str(sources / 'clips'), str(sources), str(tmp_path / 'data'), 1
    )


@pytest.mark.parametrize('text', ['4/4', '4', '/4', '-1/4', '0/0', '1/4/4'])
def test_shards_that_there_are_not(text):
  with pytest.raises(ValueError, match=r'0/16 to 15/16'):
    prepare_audioset.shard(text)


def test_shards_that_there_are():
  assert prepare_audioset.shard('3/16') == (3, 16)
  assert prepare_audioset.shard(None) is None


@pytest.mark.slow
def test_shards_that_are_killed_come_to_the_same_bytes(tmp_path):
  (outcome,) = preparing.run(seed=0, scale=0.2, folder=str(tmp_path))
  assert (outcome.tried, outcome.survived) == (2, 2), outcome.notes
  assert os.listdir(tmp_path / 'whole/audioset') == ['1.0.0']
