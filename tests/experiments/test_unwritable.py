"""Places that cannot be written: results are printed, or no work is begun.

Permissions do not stop root, as whom the tests run. A read-only file system
does, where mounting is permitted, and a file in the place of a folder.
"""

import os
import subprocess

import pytest

from experiments import evaluate, saved, storage
from experiments.benchmarks.imagenet import preparation
from experiments.errors import DamagedRecordError
from scripts import attention_maps, export, report
from tests import commands

READ_ONLY = 'cannot be written: Read-only file system. Name a place that can'


@pytest.fixture
def read_only(copy):
  """A run's directory, mounted so that nobody can write there."""
  for options in (['--bind', copy], ['-o', 'remount,bind,ro']):
    mount = ['mount', *options, copy]
    if subprocess.run(mount, capture_output=True).returncode:
      pytest.skip('Mounting is not permitted here.')
  yield copy
  subprocess.run(['umount', '--lazy', copy], check=True)


def test_the_score_comes_before_what_could_not_be_written(
  trained, read_only, command
):
  ended = command(
    *('--config=configs/digits.py:smoke', f'--workdir={read_only}'),
    '--mode=eval',
  )
  assert ended.stdout == evaluate.summary('test', trained[2]) + '\n'
  (line,) = ended.stderr.splitlines()
  assert line.startswith(f'Error: {read_only}/predictions_test.npz {READ_ONLY}')
  assert ended.returncode == 1


def test_a_damaged_record_that_cannot_be_noted_costs_no_score(
  trained, read_only, monkeypatch, change
):
  run = change(trained[0], **{'data.max_damaged': 1.0})
  whole = run.task.eval_example
  first = run.source('test')[0]

  def with_a_damaged_one(record):
    if (record['image'] == first['image']).all():
      raise DamagedRecordError('It is damaged.')
    return whole(record)

  monkeypatch.setattr(run.task, 'eval_example', with_a_damaged_one)
  message = f'skipped_0.jsonl {READ_ONLY}'
  with pytest.raises(evaluate.UnwrittenError, match=message) as caught:
    saved.evaluate_checkpoint(run, str(read_only))
  metrics = caught.value.metrics['test']
  assert metrics['count'] == trained[2]['count'] - 1


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
  """A place that cannot be written; long work fails the test."""

  def work(*arguments, **settings):
    raise AssertionError('It works before it has looked.')

  monkeypatch.setattr(saved, 'restore', work)
  monkeypatch.setattr(report.page, 'of_run', work)
  monkeypatch.setattr(preparation, '_install', work)
  monkeypatch.setattr(preparation, 'check_tars', lambda *arguments: None)
  (tmp_path / 'file').write_text('')
  return f'{tmp_path}/file/place'


def test_scripts_look_first_whether_they_can_write(trained, nowhere):
  workdir = str(trained[1])
  before = sorted(os.listdir(workdir))
  for write in (
    lambda: report.write([workdir], f'{nowhere}/page.html'),
    lambda: attention_maps.write(workdir, examples=[0], output=nowhere),
    lambda: export.export(workdir, nowhere),
    lambda: export.convert(workdir, nowhere),
    lambda: preparation.prepare(
      'tars', nowhere, environment=None, report=print
    ),
  ):
    with pytest.raises(OSError, match=r'file.*cannot be written: Not a direct'):
      write()
  assert sorted(os.listdir(workdir)) == before
  with pytest.raises(OSError, match=r'is in a store. Write to a disk'):
    export.export(workdir, 'gs://runs/exported')


@pytest.mark.parametrize('script', ['benchmark', 'benchmark_loader', 'plan'])
def test_commands_look_first_whether_they_can_write_json(script):
  config = (
    () if script == 'benchmark_loader' else ['--config=configs/digits.py']
  )
  path = '/dev/null/report.json'
  line = commands.error(f'scripts.{script}', *config, f'--json={path}')
  assert line.startswith(f'Error: {path} cannot be written: Not a directory.')


def test_a_look_leaves_nothing_and_spoils_nothing(tmp_path, store):
  for folder in (storage.path(tmp_path), storage.path(store.url('looked'))):
    path = folder / 'file'
    storage.check(path)
    assert not path.exists()
    storage.write(path, 'text')
    storage.check(path)
    storage.check_folder(folder / 'new' / 'one')
    assert path.read_text() == 'text'
    assert storage.files(folder) == [path]
  storage.check(storage.path('/dev/stdout'))
  with pytest.raises(OSError, match=r'Is a directory. Name a file'):
    storage.check(storage.path(tmp_path))
  with pytest.raises(OSError, match=r'No such file.* Make its folder first'):
    storage.check(storage.path(tmp_path / 'new' / 'file'))
