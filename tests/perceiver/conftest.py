"""Inputs of each kind."""

import numpy as np
import pytest

import perceiver

B = 2


def random_data():
  rng = np.random.default_rng(0)
  return {
    'image': rng.normal(size=(B, 4, 5, 3)).astype(np.float32),
    'sound': rng.normal(size=(B, 7, 2)).astype(np.float32),
    'points': rng.uniform(-1, 1, size=(B, 9, 3)).astype(np.float32),
    'mask': rng.uniform(size=(B, 4, 5)) < 0.6,
  }


@pytest.fixture(scope='session')
def data():
  return random_data()


def grid_segment(content, num_bands, max_resolution=None, **rest):
  """A segment of content [B, *grid, C] with Fourier features by axis."""
  grid = content.shape[1:-1]
  positions = perceiver.fourier_axes(grid, num_bands, max_resolution)
  return perceiver.Segment(content, positions, **rest)
