"""Video in patches (section 4.2)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver.modalities.base import Modality
from perceiver.ranges import Count


@dataclasses.dataclass(frozen=True)
class Video(Modality):
  """Videos [T, H, W, 3], an element for each patch (section 4.2).

  The max resolutions are the numbers of patches on each axis.
  """

  num_frames: Count
  height: Count
  width: Count
  patch_shape: tuple[Count, Count, Count]  # Frames, lines, columns.
  source = 'video'

  def __post_init__(self) -> None:
    super().__post_init__()
    sizes = self.shape[:3]
    if len(self.patch_shape) != 3 or any(
      size % part for size, part in zip(sizes, self.patch_shape, strict=True)
    ):
      raise ValueError(
        f'patch_shape={self.patch_shape} does not divide {sizes}.'
      )

  @property
  def shape(self) -> tuple[int, ...]:
    return self.num_frames, self.height, self.width, 3

  @property
  def grid(self) -> tuple[int, ...]:
    """Patches along each axis."""
    sizes = zip(self.shape, self.patch_shape, strict=False)
    return tuple(size // part for size, part in sizes)

  def range(self, normalized: bool) -> tuple[float, float]:
    return (-1.0, 1.0) if normalized else (0.0, 255.0)

  @property
  def prepared(self) -> jax.ShapeDtypeStruct:
    """Patches: a TPU works on 128 channels at once, and a pixel has three."""
    shape = (*self.grid, 3 * math.prod(self.patch_shape))
    return jax.ShapeDtypeStruct(shape, np.uint8)

  def prepare(self, array: Any, normalized: bool = False) -> Any:
    del normalized
    return cut_patches(np.asarray(array), self.patch_shape)

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Takes numbers from -1 to 1 if `normalized`, else from 0 to 255."""
    del mesh
    content = array.astype(jnp.float32)
    return content if normalized else content / 127.5 - 1


def cut_patches(
  video: np.ndarray, patch_shape: tuple[int, int, int]
) -> np.ndarray:
  """Cuts videos into patches of some frames, lines and columns.

  Args:
    video: [..., frames, height, width, 3].
    patch_shape: must divide the three.

  Returns:
    [..., *grid, channels]: the frames, lines, columns and colours of each
    patch, in this order.
  """
  *leading, frames, height, width, colors = video.shape
  sizes = zip((frames, height, width), patch_shape, strict=True)
  split = [n for size, part in sizes for n in (size // part, part)]
  patches = video.reshape(math.prod(leading), *split, colors).transpose(
    0, 1, 3, 5, 2, 4, 6, 7
  )
  channels = math.prod(patch_shape) * colors
  return patches.reshape(*leading, *split[::2], channels)
