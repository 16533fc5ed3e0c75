"""Base class of tasks on images: pixels with position features."""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.images import pictures
from experiments.display import Display, View
from experiments.task import (
  Batch,
  FileReader,
  naming_the_section,
  one_by_one,
  Task,
)
from perceiver.modalities import Image, Modality, permutation
from perceiver.ranges import Count

PERMUTATION_SEED = 0  # One permutation, the same for all images and runs.


@dataclasses.dataclass(kw_only=True)
class ImageTask(Task):
  """Square images [H, W, channels], one input element for each pixel."""

  image_size: Count  # Pixels along a side.
  positions: str  # Features: 'fourier', or 'learned' (Table 2).
  num_bands: Count  # Of Fourier features.
  max_resolution: Count  # Of Fourier features.
  permuted: bool  # Pixels in another order, the same for all (Table 2).
  # Of the pixels, by channel; and the value of a white pixel.
  mean: ClassVar[tuple[float, ...]] = (127.5,)
  stddev: ClassVar[tuple[float, ...]] = (127.5,)
  white: ClassVar[float] = 255.0
  # Bytes until the device: moving floats would take four times as long.
  dtype: ClassVar[Any] = jnp.uint8

  def __post_init__(self) -> None:
    with naming_the_section():
      self._image = Image(
        num_bands=self.num_bands,
        height=self.image_size,
        width=self.image_size,
        channels=len(self.mean),
        mean=self.mean,
        stddev=self.stddev,
        positions=self.positions,
        max_resolution=self.max_resolution,
        permutation_seed=PERMUTATION_SEED if self.permuted else None,
        white=self.white,
      )

  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    shape = (self.image_size, self.image_size, len(self.mean))
    return {
      'image': jax.ShapeDtypeStruct(shape, self.dtype),
      'label': jax.ShapeDtypeStruct((), jnp.int32),
    }

  @property
  def modalities(self) -> Mapping[str, Modality]:
    return {'image': self._image}

  @property
  def display(self) -> Display:
    return ImageDisplay(self._image)


@dataclasses.dataclass(frozen=True)
class ImageDisplay(Display):
  """Shows an image, its pixels from 0 to 1."""

  image: Image

  def views(self, window: Batch) -> tuple[View, ...]:
    pixels = np.asarray(window['image'], np.float32)
    pixels = pixels / np.float32(self.image.white)
    grid = pixels.shape[:2]
    order = None
    if self.image.permutation_seed is not None:
      order = permutation(self.image.permutation_seed, math.prod(grid))
    return (View('image', pixels, grid, order),)


def image_reader(read_file: Callable[[str], Any]) -> FileReader:
  """Returns a reader of people's own images; `read_file` reads one of them."""
  suffixes = tuple(sum(pictures.SUFFIXES.values(), ()))
  return FileReader(suffixes, one_by_one(read_file))
