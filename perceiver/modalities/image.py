"""Images (section 4.1)."""

import dataclasses
import math
from typing import Annotated

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver.inputs import Segment
from perceiver.modalities.base import Modality
from perceiver.position_encoding import fourier_axes, LearnedPositions
from perceiver.ranges import Count, Positive, Range

Number = Annotated[float, Range('(-inf, inf)')]
Seed = Annotated[int, Range('[0, 4294967295]')]

POSITIONS = ('fourier', 'learned')


@dataclasses.dataclass(frozen=True)
class Pixels(Modality):
  """Base class of images [H, W, channels], normalised on the device."""

  height: Count
  width: Count
  channels: Count
  mean: tuple[Number, ...]  # Of the pixels, by channel.
  stddev: tuple[Positive, ...]
  # The largest number of a pixel, before it is normalised; None: not known.
  white: Positive | None = 255.0
  source = 'image'

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ('mean', 'stddev'):
      if len(getattr(self, name)) != self.channels:
        raise ValueError(
          f'{name}={getattr(self, name)} must have {self.channels} values.'
        )

  @property
  def shape(self) -> tuple[int, ...]:
    return self.height, self.width, self.channels

  def range(self, normalized: bool) -> tuple[float, float]:
    if self.white is None:
      return -math.inf, math.inf
    if not normalized:
      return 0.0, self.white
    pairs = list(zip(self.mean, self.stddev, strict=True))
    return (
      min(-mean / stddev for mean, stddev in pairs),
      max((self.white - mean) / stddev for mean, stddev in pairs),
    )

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Takes (pixels - mean) / stddev if `normalized`, else pixels."""
    del mesh
    image = array.astype(jnp.float32)
    if normalized:
      return image
    spread = lambda x: jnp.reshape(jnp.array(x, jnp.float32), (1, 1, 1, -1))
    return (image - spread(self.mean)) / spread(self.stddev)


@dataclasses.dataclass(frozen=True)
class Image(Pixels):
  """Images [H, W, channels], an element for each pixel (section 4.1)."""

  positions: str = 'fourier'  # Or 'learned' (Table 2, appendix B).
  max_resolution: Positive | None = None  # μ; None: the height, the width.
  position_channels: Count = 128  # P, of learned positions.
  # Pixels in another order, drawn from this seed (Table 2); None: as they are.
  permutation_seed: Seed | None = None
  # Channels that a learned linear layer gives a pixel; None: there is no such
  # layer, as in the paper.
  projection: Count | None = None

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.positions not in POSITIONS:
      raise ValueError(f'positions={self.positions!r} is none of {POSITIONS}.')

  def takes(self, shape: tuple[int, ...]) -> bool:
    """Accepts any height and width if there are positions for all of them."""
    if (
      self.positions == 'fourier'
      and self.max_resolution is not None
      and self.permutation_seed is None
    ):
      return shape[2] == self.channels
    return shape == self.shape

  def segment(self, content: jax.Array) -> Segment:
    grid = content.shape[1:3]
    if self.projection is not None:
      content = hk.Linear(self.projection, name='projection')(content)
    segment = Segment(
      content,
      fourier_axes(grid, self.num_bands, self.max_resolution)
      if self.positions == 'fourier'
      else LearnedPositions(grid, self.position_channels)(),
    )
    if self.permutation_seed is None:
      return segment
    # The position features are attached already, so they move along.
    return segment.permute(permutation(self.permutation_seed, math.prod(grid)))


def permutation(seed: int, size: int) -> np.ndarray:
  """Returns an order of elements, the same for the same seed."""
  return np.random.default_rng(seed).permutation(size)
