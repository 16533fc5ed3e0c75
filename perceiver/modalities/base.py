"""The base class of all modalities."""

import abc
import dataclasses
import math
from typing import Any, ClassVar
import warnings

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver import ranges
from perceiver.inputs import Segment
from perceiver.position_encoding import fourier_axes
from perceiver.ranges import Count

# The most position features of an axis: a false file must not take all memory.
MAX_FEATURES = 1 << 26


@dataclasses.dataclass(frozen=True)
class Modality(abc.ABC):
  """One kind of input.

  Raises:
    ValueError: from the constructor, for numbers out of their range, and for
      sizes that do not fit each other.
  """

  source: ClassVar[str]  # The name of its array in a batch.
  dtype: ClassVar[Any] = np.float32  # That array's, on the host.
  # How far normalised numbers may lie outside their range, in units of its
  # width: resizing and decoding overshoot.
  slack: ClassVar[float] = 1.0
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
    """Shape of one example's array, as people have it."""

  @property
  def prepared(self) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an example, made by `prepare`."""
    return jax.ShapeDtypeStruct(self.shape, self.dtype)

  def range(self, normalized: bool) -> tuple[float, float]:
    """The least and the largest number that an array may have."""
    del normalized
    return -math.inf, math.inf

  def check(self, array: Any, normalized: bool = False) -> None:
    """Checks an array that people give.

    Warns of integers that are at most 1 where they should be much larger, such
    as pixels that are 0 or 1: they may be right. The numbers of an array that
    is traced by `jax.jit` are not known, and so not checked.

    Args:
      array: [B, *shape], NumPy's or JAX's.
      normalized: whether it is as the network sees it, see `content`.

    Raises:
      ValueError: for other shapes, and for numbers that are not finite, not
        real, outside `range`, or floats that are at most 1 where they should be
        much larger.
    """
    shape = np.shape(array)
    if len(shape) != len(self.shape) + 1 or not self.takes(shape[1:]):
      raise ValueError(
        f'{self.source!r} of shape {shape}; expected'
        f' [B, {", ".join(map(str, self.shape))}].'
      )
    dtype = array.dtype
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
      raise ValueError(f'{self.source!r} of {dtype}; expected real numbers.')
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    if np.issubdtype(self.dtype, np.integer) and not (is_integer or normalized):
      raise ValueError(
        f'{self.source!r} of floats; expected {np.dtype(self.dtype)}, or'
        ' normalized=True.'
      )
    if not isinstance(array, jax.core.Tracer) and array.size > 0:
      self._check_numbers(array, normalized)

  def _check_numbers(self, array: Any, normalized: bool) -> None:
    library = jnp if isinstance(array, jax.Array) else np
    least, most = float(library.min(array)), float(library.max(array))
    has = f'{self.source!r} has numbers from {least:.4g} to {most:.4g}'
    low, high = self.range(normalized)
    expected = f'expected {low:.4g} to {high:.4g}'
    if not (math.isfinite(least) and math.isfinite(most)):
      raise ValueError(f'{has}; expected finite ones.')
    if normalized:
      margin = self.slack * (high - low)
      if least < low - margin or most > high + margin:
        raise ValueError(
          f'{has}; {expected}, or normalized=False for an array that is not'
          ' normalised yet.'
        )
      return
    if least < low or most > high:
      raise ValueError(
        f'{has}; {expected}. Scale or clip them, or say normalized=True if they'
        ' are normalised already.'
      )
    # All zeros mean the same on every scale.
    if 1 < high < math.inf and 0 < max(-least, most) <= 1:
      if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
          f'{has}; {expected}: multiply numbers from 0 to 1 by {high:.4g}, say'
          ' normalized=True if they are normalised already, or give integers'
          ' if they are so small.'
        )
      warnings.warn(
        f'{has}; {expected}, or normalized=True. Integers so small are taken as'
        ' they are.',
        stacklevel=4,
      )

  def takes(self, shape: tuple[int, ...]) -> bool:
    """Whether an example may have this shape, of as many axes as `shape`."""
    return shape == self.shape

  def prepare(self, array: Any, normalized: bool = False) -> Any:
    """Makes an array ready on the host.

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
    """Makes the content on the device.

    Args:
      array: as `prepare` left it.
      normalized: whether its numbers are of the range that the network sees.
      mesh: of devices that the program is for.

    Returns:
      [B, *grid, channels] float32.
    """

  def segment(self, content: jax.Array) -> Segment:
    """Adds positions to the content; may have parameters.

    By default these are Fourier features up to the grid's own resolution.
    """
    return Segment(content, fourier_axes(content.shape[1:-1], self.num_bands))
