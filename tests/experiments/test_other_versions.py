"""What was left with the oldest versions goes on with the newest, and back."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# The environments of Makefile; the other one than this.
OTHER = '.venv' if sys.version_info >= (3, 12) else '.venv-newest'


@pytest.fixture
def other():
  """The other environment's Python."""
  python = ROOT / OTHER / 'bin' / 'python'
  if not python.exists():
    pytest.skip(f'needs {OTHER}, as .ci/run makes it.')
  return python


def train(python, workdir, steps, hidden=()):
  """A process that trains up to a step; its log, and the test score's record.

  `hidden`: names of variables that it does not see.
  """
  result = subprocess.run(
    [
      *(python, '-m', 'experiments.run', '--config=configs/digits.py:smoke'),
      *(f'--workdir={workdir}', f'--config.train.steps={steps}'),
      '--config.optimizer.schedule=constant',  # Whatever number of steps.
      '--config.data.num_workers=1',
    ],
    cwd=ROOT,
    env={k: v for k, v in os.environ.items() if k not in hidden},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return result.stderr, json.loads(lines[-1])


@pytest.mark.slow
@pytest.mark.versions
def test_a_run_goes_on_with_other_versions(other, tmp_path):
  """On a checkpoint and a cache of others, as if there were no others."""
  for steps, python in ((2, sys.executable), (4, other), (6, sys.executable)):
    log, record = train(
      # The run's own cache is to be read.
      *(python, tmp_path / 'run', steps, ('JAX_COMPILATION_CACHE_DIR',))
    )
    assert ('Going on from the checkpoint' in log) == (steps > 2)
    assert record['step'] == steps
  _, alone = train(sys.executable, tmp_path / 'alone', 6)
  assert record['loss'] == pytest.approx(alone['loss'], rel=1e-4)
