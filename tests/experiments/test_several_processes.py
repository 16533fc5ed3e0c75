"""A run that goes on with other numbers of processes and devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

from experiments import hold, telemetry, train
from scripts.torturing import emulator
from tests.conftest import ROOT
from tests.experiments.smoke import create, losses

# Steps that do not depend on how many there will be.
SETTINGS = {
  'train.batch_size': 48,
  'train.eval_every': 5,
  'eval.batch_size': 48,
  'optimizer.schedule': 'constant',
}


def launch(workdir, processes, devices, **settings):
  """All processes of a run end well, and process 0 alone says the result."""
  results = results_of(workdir, processes, devices, **settings)
  for status, _, errors in results:
    assert status == 0, errors
  assert ['\ntest top1' in f'\n{output}' for _, output, _ in results] == [
    i == 0 for i in range(processes)
  ]


def results_of(workdir, processes, devices, **settings):
  """Starts all processes of a run on this machine, by the flags; waits."""
  settings = SETTINGS | settings
  host, port = emulator.free_address()
  started = [
    subprocess.Popen(
      [
        *(sys.executable, '-m', 'experiments.run'),
        *('--config=configs/digits.py:smoke', f'--workdir={workdir}'),
        *(f'--config.{key}={value}' for key, value in settings.items()),
        *(f'--coordinator={host}:{port}', f'--num_processes={processes}'),
        f'--process_id={i}',
      ],
      cwd=ROOT,
      env=os.environ | {'JAX_NUM_CPU_DEVICES': str(devices)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]
  said = [process.communicate(timeout=300) for process in started]
  return [(x.returncode, *y) for x, y in zip(started, said, strict=True)]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  train.train(create(**SETTINGS), str(workdir))
  return workdir


def assert_same(workdir, undisturbed):
  for split in ('train', 'test'):
    # They differ by the order of float32 sums.
    np.testing.assert_allclose(
      losses(workdir, split), losses(undisturbed, split), rtol=1e-5
    )
  found, wanted = (
    np.load(x / 'predictions_test.npz')['record']
    for x in (workdir, undisturbed)
  )
  assert found.tolist() == wanted.tolist()


def test_a_run_goes_on_with_fewer_and_fewer_devices(tmp_path, undisturbed):
  for steps, devices, parallel in (
    (5, 8, 2),
    (10, 4, 1),
    (15, 2, 2),
    (20, 1, 1),
  ):
    settings = {'train.steps': steps, 'train.model_parallel': parallel}
    train.train(create(devices, **SETTINGS | settings), str(tmp_path))
  assert_same(tmp_path, undisturbed)


def test_a_run_goes_on_in_other_numbers_of_processes(tmp_path, undisturbed):
  launch(tmp_path, 3, 2, **{'train.steps': 5, 'train.model_parallel': 2})
  launch(tmp_path, 1, 2, **{'train.steps': 10})
  launch(tmp_path, 2, 1, **{'train.steps': 20})
  assert_same(tmp_path, undisturbed)
  launches = telemetry.read_records(str(tmp_path), telemetry.LAUNCHES)
  assert [x['processes'] for x in launches] == [3, 1, 2]
  assert [len(x['devices']) for x in launches] == [6, 2, 2]
  assert [x['start_step'] for x in launches] == [0, 5, 10]


def test_all_processes_of_a_second_launch_say_who_trains(tmp_path):
  with hold.holding(str(tmp_path)):
    results = results_of(tmp_path, 2, 1)
    assert [x.name for x in tmp_path.iterdir()] == [hold.FILE]
  for status, _, errors in results:
    (line,) = [x for x in errors.splitlines() if x[2:3] != ':']  # No log.
    assert line.startswith(
      f'Error: {tmp_path} is in use: process {os.getpid()}'
    )
    assert status == 1
