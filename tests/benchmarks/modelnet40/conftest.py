"""Small data sets beside the real ones."""

import pytest

from experiments.benchmarks.modelnet40 import source as modelnet40
from tests.benchmarks.modelnet40.archives import (
  KINDS,
  MANY,
  TINY,
  TINY_HDF5,
  TINY_TEXT,
)


@pytest.fixture(autouse=True)
def datasets(monkeypatch):
  added = {
    'tiny': TINY,
    'tiny_hdf5': TINY_HDF5,
    'tiny_text': TINY_TEXT,
    'many': modelnet40.Dataset('off', 'many.zip', KINDS, MANY),
  }
  monkeypatch.setattr(modelnet40, 'DATASETS', modelnet40.DATASETS | added)
