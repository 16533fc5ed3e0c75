"""A full or read-only disk gives a one-line error, and nothing is lost."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys

import jax
import pytest

from experiments import compilation_cache, metrics, storage, telemetry, train
from experiments.benchmarks.imagenet import preparation as imagenet
from experiments.benchmarks.modelnet40 import preparation
from experiments.benchmarks.modelnet40 import source as modelnet40
from tests import commands
from tests.benchmarks.modelnet40.archives import mesh_files, TINY, write_zip
from tests.experiments.processes import run
from tests.experiments.smoke import create, latest

FULL = 'No space left on device. Free some space there, and run the same'


@contextlib.contextmanager
def files_of_at_most(size):
  """Limits the size of files, because root may write anywhere."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  with pytest.MonkeyPatch.context() as patch:
    # Python would cut off, and keep, what it compiles within the limit.
    patch.setattr(sys, 'dont_write_bytecode', True)
    patch.setenv('PYTHONDONTWRITEBYTECODE', '1')
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def unfinished(copy):
  """A run whose latest checkpoint, 15, is five steps before the end."""
  shutil.rmtree(copy / 'checkpoints' / '20')
  return copy


def assert_says(result, message):
  status, _, errors = result
  (line,) = [x for x in errors.splitlines() if x[2:3] != ':']  # No log line.
  assert line.startswith('Error: ')
  assert message in line
  assert status == 1


@pytest.mark.slow
def test_after_a_save_that_failed_the_next_launch_goes_on(trained, unfinished):
  workdir = unfinished
  # Compiled programs are read, but not written within the limit.
  writes_none = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '9999'}
  with files_of_at_most(30_000):  # It holds for child processes, too.
    result = run(workdir, **writes_none)
  assert_says(result, f'{workdir}/checkpoints/20 cannot be written: File')
  assert latest(workdir) == 15
  endings = telemetry.read_records(str(workdir), telemetry.ENDINGS)
  assert 'checkpoints/20 cannot be written' in endings[-1]['reason']
  assert train.train(trained[0], str(workdir)) == {'test': trained[2]}
  assert latest(workdir) == 20
  endings = telemetry.read_records(str(workdir), telemetry.ENDINGS)
  assert endings[-1]['reason'] == telemetry.FINISHED


def test_a_seal_that_cannot_be_written_ends_the_run(
  trained, unfinished, monkeypatch, change
):
  def fail(directory):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr('experiments.seal.write', fail)
  run = change(trained[0], **{'train.checkpoint_every': 1})
  with pytest.raises(
    OSError, match=f'checkpoints/16 cannot be written: {FULL}'
  ):
    train.train(run, str(unfinished))
  monkeypatch.undo()
  assert latest(unfinished) == 15


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 8 MB."""
  folder = tmp_path / 'small'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('Mounting is not permitted here.')
  yield folder
  subprocess.run(['umount', '--lazy', folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line(trained, small_disk, unfinished):
  workdir = shutil.copytree(unfinished, small_disk / 'run')
  # Enough for the launch's records, and less than half a checkpoint.
  room = 100_000
  ballast = small_disk / 'ballast'
  ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
  assert_says(run(workdir), FULL)
  assert latest(workdir) == 15
  ballast.unlink()
  assert train.train(trained[0], str(workdir)) == {'test': trained[2]}
  assert latest(workdir) == 20


def test_records_that_cannot_be_written_are_an_error(tmp_path):
  records = metrics.MetricsWriter(
    str(tmp_path), start_step=0, total_steps=9, batch_size=1, num_examples=1
  )

  def write_many():
    for step in range(1000):
      records.write(step, 'train', {'loss': 1.0, 'top1': 0.0})
      records.flush()

  message = f'{tmp_path}.* cannot be written: File too large'
  with files_of_at_most(2000), pytest.raises(OSError, match=message):
    write_many()
  records.close()


def test_a_line_that_does_not_fit_names_its_file(tmp_path):
  (tmp_path / 'skipped_0.jsonl').symlink_to('/dev/full')
  with pytest.raises(OSError, match=f'skipped_0.jsonl cannot.* {FULL}'):
    telemetry.record_skipped(str(tmp_path), 'train', 1, 'damaged')
  (tmp_path / 'endings.jsonl').symlink_to('/dev/full')
  telemetry.record_ending(
    str(tmp_path), 'what ended it'
  )  # It raises nothing: the cause has been reported.


def test_a_workdir_that_cannot_be_made_is_an_error(tmp_path):
  (tmp_path / 'file').write_text('')
  message = 'file/run cannot be written: Not a directory'
  with pytest.raises(OSError, match=message):
    train.train(create(), str(tmp_path / 'file' / 'run'))


def test_a_run_does_without_a_compilation_cache(tmp_path, own_cache):
  (tmp_path / 'file').write_text('')
  compilation_cache.use(f'{tmp_path}/file', 'programs')
  with pytest.warns(UserWarning, match='persistent compilation cache'):
    assert jax.jit(lambda x: x + 1)(1.0) == 2


def test_modelnet40_is_prepared_wholly_or_not(tmp_path, monkeypatch):
  monkeypatch.setitem(modelnet40.DATASETS, 'tiny', TINY)
  archive = write_zip(tmp_path / 'tiny.zip', mesh_files())
  arguments = 'tiny', archive, str(tmp_path / 'data')
  with (
    files_of_at_most(9000),
    pytest.raises(OSError, match=r'1\.0\.0 cannot be written: File too large'),
  ):
    preparation.prepare(*arguments)
  assert not os.path.exists(modelnet40.directory(arguments[0], arguments[2]))
  assert '12 for train' in preparation.prepare(*arguments)


def test_imagenets_preparation_is_brief_on_a_full_disk(tmp_path):
  """A fake module stands for the environment that has TensorFlow."""
  (tmp_path / 'tensorflow_datasets.py').write_text(
    'def builder(*_, **__): raise OSError(28, "No space left on device")\n'
  )
  result = commands.python(
    *('-c', imagenet.BUILD, 'manual', 'data'),
    env={'PYTHONPATH': str(tmp_path)},
  )
  assert result.returncode == 1
  assert result.stderr.startswith('data cannot be written: [Errno 28] No space')
  assert result.stderr.count('\n') == 1


def test_data_is_prepared_on_a_disk():
  assert storage.local('data') == 'data'
  with pytest.raises(OSError, match=r'gcloud storage cp .* gs://runs/data'):
    storage.local('gs://runs/data')
