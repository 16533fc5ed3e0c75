"""A run that tests spoil."""

import shutil

import pytest


@pytest.fixture
def copy(trained, tmp_path):
  """A copy of a smoke run, to do things to."""
  return shutil.copytree(trained[1], tmp_path / 'copy')
