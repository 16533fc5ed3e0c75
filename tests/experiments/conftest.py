"""A run that tests look at, or copy and spoil."""

import shutil

import pytest

from experiments import train
from tests.experiments.smoke import create


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
  """A smoke run of 20 steps on one device."""
  workdir = tmp_path_factory.mktemp('trained')
  run = create()
  metrics = train.train(run, str(workdir))['test']
  return run, workdir, metrics


@pytest.fixture
def copy(trained, tmp_path):
  """A copy of that run, to do things to."""
  return shutil.copytree(trained[1], tmp_path / 'copy')
