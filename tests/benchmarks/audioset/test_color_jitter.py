"""Colour jitter: each part does what it says, the same for all frames."""

import colorsys

import jax
import numpy as np
import pytest

from experiments.benchmarks.audioset import color_jitter

NONE = {
  'probability': 1.0,
  'max_brightness': 0.0,
  'max_contrast': 0.0,
  'max_saturation': 0.0,
  'max_hue': 0.0,
}


def videos(batch=64):
  """[batch, 3, 2, 4, 3] of middling colours, that are not cut off."""
  rng = np.random.default_rng(0)
  return rng.uniform(90, 160, (batch, 3, 2, 4, 3)).astype(np.float32)


def jitter(x, seed=0, **settings):
  key = jax.random.key(seed)
  return np.asarray(color_jitter.color_jitter(x, key, **(NONE | settings)))


def luma(x):
  return x @ color_jitter.YIQ_FROM_RGB[0]


def test_nothing_changes_without_strength_or_luck():
  x = videos()
  # The matrices' product is the identity to float32's rounding.
  np.testing.assert_allclose(jitter(x), x, atol=1e-3)
  np.testing.assert_array_equal(jitter(x, probability=0.0, max_hue=0.5), x)


@pytest.mark.parametrize(
  ('key', 'most'),
  [('max_brightness', 0.1), ('max_contrast', 0.4), ('max_saturation', 0.4)],
)
def test_strengths_are_uniform_up_to_their_maximum(key, most):
  x = videos()
  y = jitter(x, **{key: most})
  if key == 'max_brightness':
    strength = (y - x).mean(axis=(1, 2, 3, 4)) / 255
  else:
    if key == 'max_contrast':
      center = lambda v: v - x.mean(axis=(1, 2, 3), keepdims=True)
    else:  # Saturation: what is not grey.
      center = lambda v: v - luma(v)[..., None]
      np.testing.assert_allclose(luma(y), luma(x), atol=0.05)
    scale = (center(y) * center(x)).sum(axis=(1, 2, 3, 4))
    strength = scale / (center(x) ** 2).sum(axis=(1, 2, 3, 4)) - 1
  assert np.abs(strength).max() <= most * 1.01
  # The extremes of 64 draws lie within a tenth of the range's ends.
  assert strength.max() > 0.8 * most
  assert strength.min() < -0.8 * most


def test_hue_turns_and_keeps_the_luminance():
  x = videos()
  y = jitter(x, max_hue=0.2)
  np.testing.assert_allclose(luma(y), luma(x), atol=0.05)
  # Frames of one colour, as its hue changes.
  red = np.broadcast_to(np.float32([170, 90, 90]), x.shape)
  turned = jitter(red, max_hue=0.2)
  assert np.ptp(turned, axis=(1, 2, 3)).max() < 1e-3  # All frames alike.
  hues = np.array([colorsys.rgb_to_hsv(*(v[0, 0, 0] / 255))[0] for v in turned])
  hues = (hues + 0.5) % 1 - 0.5
  assert 0.1 < np.abs(hues).max() < 0.3  # YIQ's circle is not quite HSV's.
  assert hues.min() < 0 < hues.max()


def test_pixels_may_lie_side_by_side():
  x = videos()
  settings = dict.fromkeys(NONE, 0.3) | {'probability': 1.0}
  pixels = jitter(x, **settings)
  assert np.abs(pixels - x).max() > 10
  for shape in ((64, 3, 2, 12), (64, 6, 12), (64, 72)):
    side_by_side = jitter(x.reshape(shape), **settings)
    assert side_by_side.shape == shape
    np.testing.assert_allclose(side_by_side.reshape(x.shape), pixels, atol=1e-3)


def test_the_probability_is_that_of_a_video():
  x = videos(2000)[:, :1, :1, :1]
  y = jitter(x, probability=0.8, max_brightness=0.1)
  changed = (y != x).any(axis=(1, 2, 3, 4)).mean()
  assert abs(changed - 0.8) < 5 * np.sqrt(0.8 * 0.2 / 2000)


def test_results_are_cut_off_and_follow_the_key():
  x = videos() * 1.6
  strong = {name: 1.0 for name in NONE}
  y = jitter(x, **strong)
  assert (y.min(), y.max()) == (0, 255)
  np.testing.assert_array_equal(y, jitter(x, **strong))
  assert (y != jitter(x, seed=1, **strong)).any()
