"""SpecAugment's masks."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.audioset import spec_augment


def test_spec_augment_masks_bins_and_frames_of_uniform_widths():
  shape = (4000, 20, 10)
  draw = lambda masks: np.asarray(
    spec_augment.spec_augment_mask(
      jax.random.key(0), shape, num_masks=masks, max_bins=6, max_frames=3
    )
  )
  assert draw(0).all()
  mask = draw(1)
  bins, frames = ~mask.any(axis=2), ~mask.any(axis=1)
  # A mask covers bins, frames, or both.
  np.testing.assert_array_equal(mask, ~(bins[:, :, None] | frames[:, None]))
  for masked, most in ((bins, 6), (frames, 3)):
    widths = masked.sum(axis=1)
    counts = np.bincount(widths, minlength=most + 1)
    expected = len(mask) / (most + 1)
    # Five standard deviations.
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    steps = np.abs(np.diff(masked.astype(int), axis=1)).sum(axis=1)
    assert steps.max() == 2  # In one piece.
    assert masked[:, 0].any()
    assert masked[:, -1].any()
  # Two of them mask more, and examples differ.
  assert draw(2).mean() < mask.mean() - 0.05
  assert len(np.unique(mask.reshape(len(mask), -1), axis=0)) > 500


def test_the_mask_runs_under_jit_and_follows_the_key():
  draw = jax.jit(
    lambda key: spec_augment.spec_augment_mask(
      key, (2, 20, 10), num_masks=2, max_bins=6, max_frames=3
    )
  )
  first, again, other = (draw(jax.random.key(i)) for i in (0, 0, 1))
  assert first.dtype == jnp.bool_
  assert (first == again).all()
  assert (first != other).any()
