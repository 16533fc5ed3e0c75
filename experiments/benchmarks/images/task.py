"""What tasks on images have in common: pixels with position features."""

import dataclasses

import numpy as np

from experiments.task import Batch, Task
from experiments.views import View
import perceiver
from perceiver.ranges import Count

POSITIONS = ('fourier', 'learned')
PERMUTATION_SEED = 0  # One permutation, the same for all images and runs.


@dataclasses.dataclass
class ImageTask(Task):
  """Images [H, W, channels], one input element for each pixel."""

  positions: str  # Features: 'fourier', or 'learned' (Table 2).
  num_bands: Count  # Of Fourier features.
  max_resolution: Count  # Likewise.
  permuted: bool  # Pixels in another order, the same for all (Table 2).
  file_suffixes = ('.jpeg', '.jpg', '.png')

  def __post_init__(self) -> None:
    if self.positions not in POSITIONS:
      raise ValueError(
        f'task.positions={self.positions!r} is none of {POSITIONS}.'
      )

  def byte_array(self, batch: Batch, is_training: bool) -> perceiver.ByteArray:
    del is_training
    image = batch['image']
    grid = image.shape[1:3]
    positions = (
      perceiver.fourier_axes(grid, self.num_bands, self.max_resolution)
      if self.positions == 'fourier'
      else perceiver.LearnedPositions(grid)()
    )
    segment = perceiver.Segment(image, positions)
    if self.permuted:
      # The position features are attached before: they move along.
      segment = segment.permute(_permutation(segment.num_elements))
    return perceiver.ByteArray((segment,))

  def pixels(self, image: np.ndarray) -> np.ndarray:
    """An example's image [H, W, channels] from 0 to 1, to be shown."""
    return (image + 1) / 2

  def views(self, window: Batch) -> tuple[View, ...]:
    pixels = self.pixels(np.asarray(window['image']))
    grid = pixels.shape[:2]
    order = _permutation(pixels[..., 0].size) if self.permuted else None
    return (View('image', pixels, grid, order),)


def _permutation(size: int) -> np.ndarray:
  return np.random.default_rng(PERMUTATION_SEED).permutation(size)
