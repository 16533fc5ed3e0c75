"""A run goes on with the newest versions after the oldest, and back."""

import sys

import pytest

from experiments import telemetry
from tests.conftest import ROOT
from tests.experiments import processes

# The environments of Makefile; the other one than this.
OTHER = '.venv' if sys.version_info >= (3, 12) else '.venv-newest'


@pytest.fixture
def other():
  """The other environment's Python."""
  python = ROOT / OTHER / 'bin' / 'python'
  if not python.exists():
    pytest.skip(f'needs {OTHER}, as .ci/run makes it.')
  return python


def train(python, workdir, steps, **environment):
  """Trains up to a step in a process; its log, and the test score's record."""
  status, _, log = processes.run(
    *(workdir, f'--config.train.steps={steps}'),
    '--config.optimizer.schedule=constant',  # Whatever number of steps.
    '--config.data.num_workers=1',
    python=python,
    **environment,
  )
  assert status == 0, log
  return log, telemetry.read_metrics(workdir)[-1]


@pytest.mark.slow
@pytest.mark.versions
def test_a_run_goes_on_with_other_versions(other, tmp_path):
  """On a checkpoint and a cache of others, as if there were no others."""
  for steps, python in ((2, sys.executable), (4, other), (6, sys.executable)):
    log, record = train(
      *(python, tmp_path / 'run', steps),
      JAX_COMPILATION_CACHE_DIR='',  # The run's own cache is to be read.
      XLA_FLAGS='',  # Not all versions have the tests' own.
    )
    assert ('Going on from the checkpoint' in log) == (steps > 2)
    assert record['step'] == steps
  _, alone = train(sys.executable, tmp_path / 'alone', 6)
  assert record['loss'] == pytest.approx(alone['loss'], rel=1e-4)
