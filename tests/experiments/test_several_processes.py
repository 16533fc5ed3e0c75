"""A run that goes on with other numbers of processes and devices."""

import os

import numpy as np
import pytest

from experiments import hold, saved, telemetry, train
from scripts import export
from tests.experiments import processes
from tests.experiments.smoke import losses, starts, told_to_stop
from tests.perceiver import hub_server
from tests.torture import emulator

pytestmark = [pytest.mark.slow, pytest.mark.versions]


def launch(workdir, count, devices, *arguments, **environment):
  """Runs all processes; returns the status, output and errors of each."""
  host, port = emulator.free_address()
  started = [
    processes.start(
      workdir,
      *(f'--coordinator={host}:{port}', f'--num_processes={count}'),
      *(f'--process_id={i}', *arguments),
      JAX_NUM_CPU_DEVICES=str(devices),
      **environment,
    )
    for i in range(count)
  ]
  said = [process.communicate(timeout=300) for process in started]
  return [(x.returncode, *y) for x, y in zip(started, said, strict=True)]


def test_a_run_goes_on_in_other_numbers_of_processes(trained, tmp_path):
  """One process trains to step 10, two to 20, and one evaluates."""
  run, workdir, metrics = trained
  with told_to_stop(10):
    train.train(run, str(tmp_path))
  results = launch(tmp_path, 2, 2, '--config.train.model_parallel=2')
  for i, (status, output, errors) in enumerate(results):
    assert status == 0, errors
    # Only process 0 prints the result.
    assert ('\ntest top1' in f'\n{output}') == (i == 0)
  for split in ('train', 'test'):
    # The order of float32 sums differs.
    np.testing.assert_allclose(
      losses(tmp_path, split), losses(workdir, split), rtol=1e-5
    )
  found, wanted = (
    np.load(x / 'predictions_test.npz')['record'] for x in (tmp_path, workdir)
  )
  assert found.tolist() == wanted.tolist()
  launches = telemetry.read_records(str(tmp_path), telemetry.LAUNCHES)
  assert [x['processes'] for x in launches] == [1, 2]
  assert len(launches[1]['devices']) == 4
  assert starts(tmp_path) == [0, 10]
  again = saved.evaluate_checkpoint(run, str(tmp_path))['test']
  np.testing.assert_allclose(again['loss'], metrics['loss'], rtol=1e-5)


def test_all_processes_of_a_second_launch_say_who_trains(tmp_path):
  with hold.holding(str(tmp_path)):
    results = launch(tmp_path, 2, 1)
    assert [x.name for x in tmp_path.iterdir()] == [hold.FILE]
  for status, _, errors in results:
    (line,) = [x for x in errors.splitlines() if x[2:3] != ':']  # No log line.
    assert line.startswith(
      f'Error: {tmp_path} is in use: process {os.getpid()}'
    )
    assert status == 1


def test_weights_from_a_hub_are_downloaded_once(workdir, tmp_path):
  folder, commit = tmp_path / 'weights', 'c' * 40
  export.export(str(workdir), str(folder))
  files = {x.name: x.read_bytes() for x in folder.iterdir()}
  with hub_server.running(
    {'lab/digits': {commit: files}}, {'v1': commit}
  ) as hub:
    results = launch(
      tmp_path / 'run',
      *(2, 2, '--config.train.init_from=lab/digits@v1'),
      '--config.train.steps=2',
      **hub.environment(tmp_path / 'home'),
    )
  snapshot = f'models--lab--digits/snapshots/{commit}: '
  for status, _, errors in results:
    assert status == 0, errors
    assert snapshot in errors
    assert 'fresh: none' in errors
  assert len([x for x in hub.requests if x.startswith('GET /files/')]) == 1
