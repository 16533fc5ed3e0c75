"""Shared memory for batches may be small, as in containers."""

import collections
import errno
import os
import shutil
import subprocess
import sys

import pytest

from experiments import data_workers, evaluate, pipeline, saved, train
from tests.conftest import ROOT
from tests.experiments.smoke import create

MEGABYTE = 10**6
Usage = collections.namedtuple('Usage', 'total used free')


@pytest.fixture
def docker(monkeypatch):
  """Docker's default of 64 MB, of which 10 MB are taken."""
  usage = Usage(64 * MEGABYTE, 10 * MEGABYTE, 54 * MEGABYTE)
  monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)


def test_imagenets_batches_do_not_fit_into_dockers_default(docker):
  images = {
    'image': create()
    .task.example_spec()['image']
    .update(shape=(224, 224, 3), dtype='float32')
  }
  needed = pipeline.shared_bytes(images, 256, 1)
  batch = 256 * (224 * 224 * 3 * 4 + pipeline.MAX_REASON)  # 154 MB
  assert 6 * batch < needed < 6.01 * batch
  message = (
    r'need 926\.6 MB of shared memory, but /dev/shm has 54\.0 MB free of'
    r' 64\.0 MB\..*--shm-size=1g.*--config\.data\.num_workers=0'
  )
  with pytest.raises(OSError, match=message):
    data_workers.check_shared_memory(needed)
  data_workers.check_shared_memory(pipeline.shared_bytes(images, 256, 0))


def test_a_run_says_so_before_it_starts(docker, copy, tmp_path):
  workers = {'data.num_workers': 2, 'train.batch_size': 64_000}
  with pytest.raises(OSError, match='MB of shared memory, but /dev/shm has'):
    train.train(create(**workers), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
  large = create(**{'data.num_workers': 2, 'eval.batch_size': 64_000})
  with pytest.raises(OSError, match='MB of shared memory, but /dev/shm has'):
    saved.evaluate_checkpoint(large, str(copy))


def test_training_and_evaluation_hold_their_batches_at_once():
  run = create(**{'data.num_workers': 3})
  spec = run.task.example_spec()
  assert pipeline.shared_bytes(spec, 64, 3) > 14 * 64 * 8 * 8 * 4
  assert evaluate.shared_bytes(run) == pipeline.shared_bytes(
    run.task.eval_spec(), run.config.eval.batch_size, 3
  )
  assert evaluate.shared_bytes(create()) == 0  # Without workers.


def test_memory_that_fills_up_later_is_named(monkeypatch):
  def fail(batches):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(data_workers, '_start', fail)
  run = create()
  batches = evaluate.batches(run, run.source('test'))
  with pytest.raises(OSError, match=r'/dev/shm.* is full.*num_workers=0'):
    next(batches)


def in_a_small_memory(size, *command):
  """Runs a command where /dev/shm has so many bytes, or skips the test."""
  mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm || exit 99; exec "$@"'
  result = subprocess.run(
    ['unshare', '--mount', 'sh', '-c', mount, 'sh', *command],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  if result.returncode == 99 or 'unshare failed' in result.stderr:
    pytest.skip('Mounting is not permitted here.')
  return result


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('unshare'), reason='Linux')
def test_a_run_fits_into_what_it_asks_for(tmp_path):
  settings = {'data.num_workers': 1, 'train.batch_size': 1000}
  run = create(**settings, **{'eval.batch_size': 1000})
  needed = evaluate.shared_bytes(run) + pipeline.shared_bytes(
    run.task.example_spec(), 1000, 1
  )
  command = [
    *(sys.executable, '-m', 'experiments.run'),
    *('--config=configs/digits.py:smoke', f'--workdir={tmp_path}/run'),
    *(f'--config.{key}={value}' for key, value in settings.items()),
    *('--config.eval.batch_size=1000', '--config.train.steps=2'),
  ]
  result = in_a_small_memory(needed, *command)
  assert result.returncode == 0, result.stderr
