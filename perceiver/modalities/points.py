"""Point clouds (section 4.3)."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver.inputs import Segment
from perceiver.modalities.base import Modality
from perceiver.position_encoding import fourier_points
from perceiver.ranges import Count, Positive


@dataclasses.dataclass(frozen=True)
class Points(Modality):
  """Point clouds [M, 3]: features of the coordinates alone (section 4.3)."""

  num_points: Count
  max_resolution: Positive  # μ: the unit cube's side, in elements.
  # (height, width) of the places of the points, in order; None: a set.
  grid: tuple[Count, Count] | None = None
  source = 'points'
  # For rounding alone: there are no features outside the cube.
  slack: ClassVar[float] = 1e-3

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.grid is not None and math.prod(self.grid) != self.num_points:
      raise ValueError(f'grid={self.grid} must have {self.num_points} places.')

  @property
  def shape(self) -> tuple[int, ...]:
    return self.num_points, 3

  def range(self, normalized: bool) -> tuple[float, float]:
    return (-1.0, 1.0) if normalized else (-math.inf, math.inf)

  def takes(self, shape: tuple[int, ...]) -> bool:
    """Accepts any number of points if they are a set."""
    return shape == self.shape if self.grid else shape[1] == 3

  def prepare(self, array: Any, normalized: bool = False) -> Any:
    """Takes points as `normalize_points` makes them if `normalized`."""
    array = np.asarray(array, np.float32)
    if normalized or len(array) == 0:
      return array
    return np.stack([*map(normalize_points, array)])

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    del normalized, mesh
    return array.reshape(len(array), *(self.grid or array.shape[1:2]), 3)

  def segment(self, content: jax.Array) -> Segment:
    nothing = jnp.zeros((*content.shape[:-1], 0))
    positions = fourier_points(content, self.num_bands, self.max_resolution)
    return Segment(nothing, positions)


def normalize_points(points: np.ndarray) -> np.ndarray:
  """Moves and scales a cloud to zero mean and the unit cube.

  One scale for the three axes keeps the proportions: the largest coordinate,
  in absolute value, becomes 1.

  Args:
    points: [M, 3].

  Returns:
    [M, 3] in [-1, 1], in the dtype of the points.

  Raises:
    ValueError: if a coordinate is not finite, or all points are the same.
  """
  with np.errstate(invalid='ignore', over='ignore'):  # Checked below.
    centred = points - points.mean(axis=0)
    scale = np.abs(centred).max()
  if not np.isfinite(scale) or scale == 0:
    raise ValueError(f'A point cloud of extent {scale} cannot be normalized.')
  return centred / scale
