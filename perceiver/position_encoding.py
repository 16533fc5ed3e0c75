"""Position features that are concatenated to the input (paper, section 3.2).

Glossary of shapes:
- d: position dimensions; K: frequency bands; S: size of one grid axis.
- M: input elements; P: position channels, 2K + 1 per dimension for Fourier.
"""

from collections.abc import Sequence
import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


def fourier_frequencies(num_bands: int, max_resolution: float) -> np.ndarray:
  """Returns frequencies f_k, linear from 1 to the Nyquist frequency μ/2.

  Args:
    num_bands: K, at least 1.
    max_resolution: μ, the target resolution of the dimension in elements.

  Returns:
    [K] frequencies, in half-cycles per unit of position (section 3.2).

  Raises:
    ValueError: if there is no band or the top band is not positive.
  """
  if num_bands < 1 or max_resolution <= 0:
    raise ValueError(
      'Fourier features need num_bands >= 1 and max_resolution > 0, got'
      f' num_bands={num_bands}, max_resolution={max_resolution}.'
    )
  return np.linspace(1.0, max_resolution / 2, num_bands)


def fourier_features(
  positions: jax.typing.ArrayLike, num_bands: int, max_resolution: float
) -> jax.Array:
  """Returns sin(π f x), cos(π f x) and x for one position dimension.

  Args:
    positions: [...] positions in [-1, 1].
    num_bands: K.
    max_resolution: μ.

  Returns:
    [..., 2K + 1] float32.
  """
  x = jnp.asarray(positions, jnp.float32)[..., None]  # [..., 1]
  frequencies = jnp.asarray(
    fourier_frequencies(num_bands, max_resolution), jnp.float32
  )
  frequencies = frequencies.reshape((1,) * (x.ndim - 1) + (-1,))
  angles = jnp.pi * x * frequencies  # [..., K]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles), x], axis=-1)


def fourier_axes(
  shape: Sequence[int],
  num_bands: int,
  max_resolution: float | Sequence[float] | None = None,
) -> tuple[np.ndarray, ...]:
  """Returns a table of Fourier features for each axis of a regular grid.

  The first and last element of an axis lie at -1 and 1: coordinates belong to
  the crop that the model sees, not to the image it was cut from (section 3.2).

  Args:
    shape: sizes S of the d axes, such as (height, width).
    num_bands: K.
    max_resolution: μ for all axes, or one for each; the axes' sizes if None.

  Returns:
    d tables, [S, 2K + 1] float32 each.

  Raises:
    ValueError: if max_resolution does not have one value for each axis.
  """
  if max_resolution is None:
    max_resolution = shape
  resolutions = (
    (max_resolution,) * len(shape)
    if isinstance(max_resolution, int | float)
    else tuple(max_resolution)
  )
  if len(resolutions) != len(shape):
    raise ValueError(
      f'max_resolution={resolutions} does not have one value for each axis'
      f' of the grid {tuple(shape)}.'
    )
  tables = []
  for size, resolution in zip(shape, resolutions, strict=True):
    # In float64 NumPy: the tables are constants of the compiled program.
    x = np.linspace(-1.0, 1.0, size)[:, None]  # [S, 1]
    angles = np.pi * x * fourier_frequencies(num_bands, resolution)  # [S, K]
    table = np.concatenate([np.sin(angles), np.cos(angles), x], axis=-1)
    tables.append(table.astype(np.float32))  # [S, 2K + 1]
  return tuple(tables)


def fourier_points(
  points: jax.Array, num_bands: int, max_resolution: float
) -> jax.Array:
  """Returns Fourier features of points without a grid (section 4.3).

  Args:
    points: [..., d] coordinates in [-1, 1].
    num_bands: K.
    max_resolution: μ, the same for all dimensions.

  Returns:
    [..., d (2K + 1)] float32.
  """
  features = fourier_features(points, num_bands, max_resolution)
  num_channels = math.prod(features.shape[-2:])
  return features.reshape(*points.shape[:-1], num_channels)


@dataclasses.dataclass
class LearnedPositions(hk.Module):
  """A trained vector for each input element (Table 2, appendix B)."""

  shape: Sequence[int]  # The grid's sizes.
  num_channels: int = 128  # P
  init_scale: float = 1.0  # "a scale of 1.0 worked best" (appendix B).
  name: str | None = None

  def __call__(self) -> jax.Array:  # [1, *shape, P]
    """Returns the table, with a batch axis of one."""
    return hk.get_parameter(
      'positions',
      [1, *self.shape, self.num_channels],
      init=hk.initializers.TruncatedNormal(self.init_scale),
    )
