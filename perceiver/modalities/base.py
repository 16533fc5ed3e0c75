"""What all modalities have in common."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver import ranges
from perceiver.inputs import Segment
from perceiver.position_encoding import fourier_axes
from perceiver.ranges import Count

# What the positions of an axis may take; a lying file is to take no more.
MAX_FEATURES = 1 << 26


@dataclasses.dataclass(frozen=True)
class Modality(abc.ABC):
  """One kind of input.

  Raises:
    ValueError: from the constructor, for numbers out of their range, and for
      sizes that do not fit each other.
  """

  source: ClassVar[str]  # The name of its array in a batch.
  dtype: ClassVar[Any] = np.float32  # Of that array, on the host.
  num_bands: Count  # K, of Fourier features.

  def __post_init__(self) -> None:
    ranges.check(type(self), vars(self))
    if max(self.shape) * self.num_bands > MAX_FEATURES:
      raise ValueError(
        f'{self.source!r} of {self.shape} with {self.num_bands} bands is too'
        ' large.'
      )

  @property
  @abc.abstractmethod
  def shape(self) -> tuple[int, ...]:
    """Of one example's array, as people have it."""

  @property
  def prepared(self) -> jax.ShapeDtypeStruct:
    """What `prepare` makes of an example."""
    return jax.ShapeDtypeStruct(self.shape, self.dtype)

  def check(self, array: Any, normalized: bool = False) -> None:
    """Raises ValueError for an array that is no batch of these."""
    shape = np.shape(array)
    if len(shape) != len(self.shape) + 1 or not self.takes(shape[1:]):
      raise ValueError(
        f'{self.source!r} of shape {shape}; expected'
        f' [B, {", ".join(map(str, self.shape))}].'
      )
    is_integer = np.issubdtype(jnp.result_type(array), np.integer)
    if np.issubdtype(self.dtype, np.integer) and not (is_integer or normalized):
      raise ValueError(
        f'{self.source!r} of floats; expected {np.dtype(self.dtype)}, or'
        ' normalized=True.'
      )

  def takes(self, shape: tuple[int, ...]) -> bool:
    """Whether an example may have this shape of as many axes as `shape`."""
    return shape == self.shape

  def prepare(self, array: Any, normalized: bool = False) -> Any:
    """What is done on the host.

    Args:
      array: [B, *shape].
      normalized: whether it is as the network sees it, see `content`.

    Returns:
      [B, ...] as `prepared`.
    """
    del normalized
    return array

  @abc.abstractmethod
  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """What is done on the device.

    Args:
      array: as `prepare` left it.
      normalized: whether its numbers are of the range that the network sees.
      mesh: of devices that the program is for.

    Returns:
      [B, *grid, channels] float32.
    """

  def segment(self, content: jax.Array) -> Segment:
    """The content with its positions; may have parameters.

    By default they are Fourier features up to the grid's own resolution.
    """
    return Segment(content, fourier_axes(content.shape[1:-1], self.num_bands))
