"""What tasks on images have in common: pixels with position features."""

from collections.abc import Mapping
import dataclasses
import math
from typing import ClassVar

import numpy as np

from experiments.benchmarks.images import pictures
from experiments.display import View
from experiments.task import Batch, naming_the_section, Task
from perceiver.modalities import Image, Modality, permutation
from perceiver.ranges import Count

PERMUTATION_SEED = 0  # One permutation, the same for all images and runs.


@dataclasses.dataclass
class ImageTask(Task):
  """Images [H, W, channels], one input element for each pixel."""

  positions: str  # Features: 'fourier', or 'learned' (Table 2).
  num_bands: Count  # Of Fourier features.
  max_resolution: Count  # Likewise.
  permuted: bool  # Pixels in another order, the same for all (Table 2).
  file_suffixes = tuple(sum(pictures.SUFFIXES.values(), ()))
  # Of pixels, for each channel; and the value of a white one.
  mean: ClassVar[tuple[float, ...]] = (127.5,)
  stddev: ClassVar[tuple[float, ...]] = (127.5,)
  white: ClassVar[float] = 255.0

  def __post_init__(self) -> None:
    with naming_the_section():
      _ = self.modalities  # Which check what they are told.

  @property
  def modalities(self) -> Mapping[str, Modality]:
    height, width, channels = self.example_spec()['image'].shape
    image = Image(
      num_bands=self.num_bands,
      height=height,
      width=width,
      channels=channels,
      mean=self.mean,
      stddev=self.stddev,
      positions=self.positions,
      max_resolution=self.max_resolution,
      permutation_seed=PERMUTATION_SEED if self.permuted else None,
      white=self.white,
    )
    return {'image': image}

  def views(self, window: Batch) -> tuple[View, ...]:
    """The image, its pixels from 0 to 1."""
    pixels = np.asarray(window['image'], np.float32) / np.float32(self.white)
    grid = pixels.shape[:2]
    order = None
    if self.permuted:
      order = permutation(PERMUTATION_SEED, math.prod(grid))
    return (View('image', pixels, grid, order),)
