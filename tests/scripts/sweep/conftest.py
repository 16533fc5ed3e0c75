"""Sweeps with acted training and few seeds."""

import json
import pathlib
import sys

import pytest

from configs import fashion_mnist
from scripts.sweep import training
from tests.scripts.sweep import trained


@pytest.fixture
def started(monkeypatch):
  """Started runs in order; those with a rate in its `fail` fail."""
  runs = []

  def command_of(run, root):
    runs.append(run)
    fails = run.learning_rate in started.fail
    content = {} if fails else trained.files_of(run)
    workdir = run.workdir(root)
    if not fails:
      trained.write_predictions(run, pathlib.Path(workdir))
    texts = [workdir, json.dumps(content), str(int(fails))]
    return [sys.executable, '-c', trained.TRAINING, *texts]

  started = lambda: runs
  started.fail = set()
  monkeypatch.setattr(training, 'command_of', command_of)
  return started


@pytest.fixture(autouse=True)
def few_seeds(monkeypatch):
  """Three at most, so that the tests' numbers are not the config's."""
  seeds = {name: min(3, x) for name, x in fashion_mnist.NUM_SEEDS.items()}
  monkeypatch.setattr(fashion_mnist, 'NUM_SEEDS', seeds)
