"""A run goes on with the newest versions after the oldest, and back."""

import sys

import pytest

from experiments import telemetry
from tests.conftest import ROOT
from tests.experiments import processes

# Makefile makes two environments; the tests need the other one, too.
OTHER = '.venv' if sys.version_info >= (3, 12) else '.venv-newest'


@pytest.fixture
def other():
  """The other environment's Python."""
  python = ROOT / OTHER / 'bin' / 'python'
  if not python.exists():
    pytest.skip(f'needs {OTHER}, as .ci/run makes it.')
  return python


def train(python, workdir, steps, **environment):
  """Trains up to a step in a process; returns its log and its test score."""
  status, _, log = processes.run(
    *(workdir, f'--config.train.steps={steps}'),
    '--config.optimizer.schedule=constant',  # For any number of steps.
    '--config.data.num_workers=1',
    python=python,
    **environment,
  )
  assert status == 0, log
  return log, telemetry.read_metrics(workdir)[-1]


@pytest.mark.slow
@pytest.mark.versions
def test_a_run_goes_on_with_other_versions(other, tmp_path):
  """The other versions' checkpoint and cache make no difference."""
  for steps, python in ((2, sys.executable), (4, other), (6, sys.executable)):
    log, record = train(
      *(python, tmp_path / 'run', steps),
      JAX_COMPILATION_CACHE_DIR='',  # The run's own cache is to be read.
      XLA_FLAGS='',  # Not all versions know the flags of the tests.
    )
    assert ('Going on from the checkpoint' in log) == (steps > 2)
    assert record['step'] == steps
  _, alone = train(sys.executable, tmp_path / 'alone', 6)
  assert record['loss'] == pytest.approx(alone['loss'], rel=1e-4)
