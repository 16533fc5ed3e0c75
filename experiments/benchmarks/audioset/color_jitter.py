"""Random brightness, contrast, saturation and hue of videos, on the device."""

import jax
import jax.numpy as jnp
import numpy as np

# Luminance and two colour differences, I and Q: saturation and hue are their
# length and direction.
YIQ_FROM_RGB = np.array(
  [
    [0.299, 0.587, 0.114],
    [0.596, -0.274, -0.322],
    [0.211, -0.523, 0.312],
  ]
)
RGB_FROM_YIQ = np.linalg.inv(YIQ_FROM_RGB)


def color_jitter(
  videos: jax.Array,
  key: jax.Array,
  *,
  probability: float,
  max_brightness: float,
  max_contrast: float,
  max_saturation: float,
  max_hue: float,
) -> jax.Array:
  """Changes the colours of each video, all its frames alike.

  Contrast is about the video's mean colour.

  Args:
    videos: [B, ..., K], from 0 to 255; K channels of pixels side by side, each
      with its red, green and blue.
    key: for the draws, which are uniform up to the following limits.
    probability: that a video is changed at all.
    max_brightness: the most to add or subtract, as a fraction of white.
    max_contrast: 0.4: factors from 0.6 to 1.4.
    max_saturation: as for contrast.
    max_hue: the largest turn, as a fraction of a full turn.

  Returns:
    float32 of the same shape, clipped to 0 to 255.
  """
  batch = videos.shape[0]
  draws = jax.random.uniform(key, (5, batch), minval=-1.0)
  brightness = 255 * max_brightness * draws[0]
  contrast = 1 + max_contrast * draws[1]
  saturation = 1 + max_saturation * draws[2]
  angle = 2 * jnp.pi * max_hue * draws[3]
  is_changed = (draws[4] + 1) / 2 < probability
  cos, sin = saturation * jnp.cos(angle), saturation * jnp.sin(angle)
  one, zero = jnp.ones(batch), jnp.zeros(batch)
  turn = jnp.stack(
    [one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=-1
  ).reshape(batch, 3, 3)
  colors = jnp.einsum(
    'rp,bpq,qc->bcr',
    RGB_FROM_YIQ,
    turn,
    YIQ_FROM_RGB,
    precision=jax.lax.Precision.HIGHEST,
  )

  # All of it is one affine map of a pixel's colours: contrast first, which is
  # about the mean, then the turn, then brightness.
  channels = videos.shape[-1]
  pixels = channels // 3
  rows = videos.reshape(batch, -1, channels).astype(jnp.float32)
  mean = jnp.mean(rows, axis=1)
  mean = mean.reshape(batch, pixels, 3).mean(axis=1)
  kept = (1 - contrast)[:, None, None] * mean[:, :, None] * colors
  offset = kept.sum(axis=1) + brightness[:, None]  # [B, 3]
  offset = jnp.tile(offset, (1, pixels))  # [B, K]
  # The matrix product leaves pixels side by side: three channels alone would
  # fill few of the lanes of a vector unit.
  colors = contrast[:, None, None] * colors
  matrix = (
    jnp.eye(pixels)[None, :, None, :, None] * colors[:, None, :, None, :]
  ).reshape(batch, channels, channels)
  changed = jnp.einsum(
    'bmc,bcd->bmd', rows, matrix, precision=jax.lax.Precision.HIGHEST
  )
  changed = jnp.clip(changed + offset[:, None, :], 0, 255)
  changed = jnp.where(is_changed[:, None, None], changed, rows)
  return changed.reshape(videos.shape)
