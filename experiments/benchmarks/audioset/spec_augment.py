"""SpecAugment (Park et al., 2019), on the device.

Glossary of shapes:
- B: batch; F: mel bins; T: frames.
"""

import jax
import jax.numpy as jnp


def spec_augment_mask(
  key: jax.Array,
  shape: tuple[int, int, int],
  *,
  num_masks: int,
  max_bins: int,
  max_frames: int,
) -> jax.Array:
  """Draws SpecAugment's masks of spectrograms (Park et al., 2019).

  Each mask covers from none to a maximum of neighbouring bins or frames, with
  equal probabilities, at a uniform place. Time is not warped: their paper finds
  that this gains the least.

  Args:
    key: for the draws.
    shape: B, F, T.
    num_masks: number of masks on each of the two axes.
    max_bins: the most bins that a mask covers.
    max_frames: the most frames that a mask covers.

  Returns:
    [B, F, T] bool, False where a mask is.
  """
  batch, num_bins, num_frames = shape
  bins_key, frames_key = jax.random.split(key)

  def masked(key: jax.Array, size: int, max_width: int) -> jax.Array:
    width_key, start_key = jax.random.split(key)
    draws = (batch, num_masks, 1)
    width = jax.random.randint(width_key, draws, 0, max_width + 1)
    start = jax.random.randint(start_key, draws, 0, size - width + 1)
    places = jnp.arange(size).reshape(1, 1, -1)
    inside = (start <= places) & (places < start + width)
    return inside.any(axis=1)  # [B, size]

  bins = masked(bins_key, num_bins, max_bins)
  frames = masked(frames_key, num_frames, max_frames)
  return ~(bins[:, :, None] | frames[:, None, :])
