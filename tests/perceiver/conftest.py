"""Inputs of each kind."""

import numpy as np
import pytest

B = 2


@pytest.fixture(scope='session')
def data():
  rng = np.random.default_rng(0)
  return {
    'image': rng.normal(size=(B, 4, 5, 3)).astype(np.float32),
    'sound': rng.normal(size=(B, 7, 2)).astype(np.float32),
    'points': rng.uniform(-1, 1, size=(B, 9, 3)).astype(np.float32),
    'mask': rng.uniform(size=(B, 4, 5)) < 0.6,
  }
