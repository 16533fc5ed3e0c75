"""The Perceiver's input: a byte array with structured positions.

A byte array (the paper's term) is one or more segments. A segment keeps its
content, positions and modality encoding apart, so that attention can use the
positions' structure; `to_array` concatenates them. Each of the three may have
its own dtype: booleans, integers or floats of any size. The model sees float32.

Glossary of shapes:
- B: batch; M: input elements, over all segments; C: channels of an element.
- grid: the segment's own layout, such as (height, width); its product is the
  segment's share of M.
- P: position channels; E: modality encoding channels.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

Axes = tuple[jax.typing.ArrayLike, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Segment:
  """Input elements of one modality, on a grid of any number of axes.

  Positions are either a tuple with one table per grid axis (an element's
  features are the concatenation of one row of each), or an array with the
  features of every element, as for points and learned positions.
  """

  content: jax.Array  # [B, *grid, channels]; channels may be 0 (point clouds).
  positions: Axes | jax.Array  # ([S, P_axis], ...) or [B or 1, *grid, P]
  encoding: jax.Array | None = None  # [E], the same for all elements.
  mask: jax.Array | None = None  # [B, *grid] bool; False: no such element.

  @property
  def grid(self) -> tuple[int, ...]:
    return self.content.shape[1:-1]

  @property
  def num_elements(self) -> int:
    return math.prod(self.grid)

  @property
  def tables(self) -> tuple[jax.Array, ...]:
    """Tables [S, P_axis] for each axis; none if positions are not separable."""
    if isinstance(self.positions, tuple):
      return tuple(jnp.asarray(table) for table in self.positions)
    return ()

  @property
  def num_channels(self) -> int:
    positions = self.positions
    tables = positions if isinstance(positions, tuple) else (positions,)
    parts = [p for p in (self.content, *tables, self.encoding) if p is not None]
    return sum(jnp.shape(part)[-1] for part in parts)

  def validate(self) -> None:
    """Checks that the parts fit each other.

    Raises:
      TypeError: if a part is not an array, if content, positions or encoding
        are not real numbers, or if the mask is not bool.
      ValueError: if the shapes do not fit each other.
    """
    for name, part in self._numbers().items():
      _check_numbers(name, part)
    if self.mask is not None and not jnp.issubdtype(
      _dtype('mask', self.mask), jnp.bool_
    ):
      raise TypeError(
        f'The mask is of {self.mask.dtype}; expected bool, True where an'
        ' element exists.'
      )
    content = jnp.shape(self.content)
    if len(content) < 3:
      raise ValueError(f'content must be [B, *grid, channels], got {content}.')
    if isinstance(self.positions, tuple):
      sizes = tuple(jnp.shape(table)[0] for table in self.positions)
      if sizes != self.grid:
        raise ValueError(
          f'Position tables for a grid {sizes}, content on {self.grid}.'
        )
    else:
      batch, *grid, _ = jnp.shape(self.positions)
      if batch not in (1, content[0]) or tuple(grid) != self.grid:
        raise ValueError(
          f'Positions {jnp.shape(self.positions)} do not fit content'
          f' {content}: expected [1 or B, *grid, P].'
        )
    if self.mask is not None and jnp.shape(self.mask) != content[:-1]:
      raise ValueError(
        f'Mask {jnp.shape(self.mask)} does not fit content {content}:'
        ' expected [B, *grid].'
      )

  def masked_content(self) -> jax.Array:
    """Returns the content, 0 (also for NaN) where no element exists."""
    if self.mask is None:
      return self.content
    return jnp.where(self.mask[..., None], self.content, 0)

  def as_float32(self) -> 'Segment':
    """Returns the segment with all its numbers in float32.

    Raises:
      TypeError: as `validate`.
    """
    parts = {}
    for name, part in self._numbers().items():
      _check_numbers(name, part)
      parts[name] = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), part)
    return dataclasses.replace(self, **parts)

  def _numbers(self) -> dict[str, Any]:
    parts = {'content': self.content, 'positions': self.positions}
    return (
      parts if self.encoding is None else parts | {'encoding': self.encoding}
    )

  def permute(self, order: jax.typing.ArrayLike) -> 'Segment':
    """Moves elements, with their positions, to other places of the grid.

    Args:
      order: [elements] indices; the element at order[i] moves to place i.

    Returns:
      The same elements, with positions as an array.
    """

    def move(x: jax.Array, num_channels: int) -> jax.Array:
      flat = x.reshape(x.shape[0], self.num_elements, num_channels)
      return jnp.take(flat, jnp.asarray(order), axis=1).reshape(x.shape)

    positions = self.positions
    if isinstance(positions, tuple):
      positions = dataclasses.replace(
        self, content=jnp.zeros((1, *self.grid, 0)), encoding=None, mask=None
      ).to_array()
      positions = positions.reshape(1, *self.grid, positions.shape[-1])
    mask = None if self.mask is None else move(self.mask[..., None], 1)[..., 0]
    return dataclasses.replace(
      self,
      content=move(self.content, self.content.shape[-1]),
      positions=move(positions, positions.shape[-1]),
      mask=mask,
    )

  def to_array(self) -> jax.Array:
    """Concatenates content, positions and encoding.

    Returns:
      [B, elements, C] float32.

    Raises:
      TypeError: as `validate`.
    """
    segment = self.as_float32()
    content = segment.masked_content()
    parts = [content]
    if isinstance(segment.positions, tuple):
      for axis, table in enumerate(segment.tables):
        shape = [1] * (len(self.grid) + 1)
        shape[axis + 1] = table.shape[0]
        parts.append(table.reshape(*shape, table.shape[-1]))
    else:
      parts.append(segment.positions)
    if segment.encoding is not None:
      parts.append(segment.encoding.reshape((1,) * (content.ndim - 1) + (-1,)))
    leading = content.shape[:-1]
    array = jnp.concatenate(
      [jnp.broadcast_to(p, (*leading, p.shape[-1])) for p in parts], axis=-1
    )
    return array.reshape(content.shape[0], self.num_elements, array.shape[-1])


def _dtype(name: str, part: Any) -> np.dtype:
  """Returns a part's dtype; raises TypeError if it is not an array."""
  if not hasattr(part, 'dtype'):
    raise TypeError(
      f'The {name} must be of arrays, not of {type(part).__name__}.'
    )
  return part.dtype


def _check_numbers(name: str, part: Any) -> None:
  """Raises TypeError unless an array, or each of a tuple, has real numbers."""
  for array in part if isinstance(part, tuple) else (part,):
    dtype = _dtype(name, array)
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
      raise TypeError(
        f'The {name} is of {dtype}; expected floats, integers or bool.'
      )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByteArray:
  """The model's whole input: segments of one batch size and one width C."""

  segments: tuple[Segment, ...]

  @property
  def batch_size(self) -> int:
    return self.segments[0].content.shape[0]

  @property
  def num_elements(self) -> int:
    return sum(segment.num_elements for segment in self.segments)

  @property
  def num_channels(self) -> int:
    return self.segments[0].num_channels

  def validate(self) -> None:
    """Checks the segments, and that they fit each other.

    Raises:
      TypeError: as `Segment.validate`, or if this is not a tuple of segments.
      ValueError: if shapes do not fit each other, or there is no segment.
    """
    _check_segments(self.segments)
    if not self.segments:
      raise ValueError('A byte array needs at least one segment.')
    for segment in self.segments:
      segment.validate()
    widths = [segment.num_channels for segment in self.segments]
    batches = [segment.content.shape[0] for segment in self.segments]
    if len(set(widths)) > 1:
      raise ValueError(
        f'Segments of different widths {widths}: add modality encodings'
        ' (perceiver.ModalityEncoding) to make them equally wide.'
      )
    if len(set(batches)) > 1:
      raise ValueError(f'Segments of different batch sizes {batches}.')

  def as_float32(self) -> 'ByteArray':
    """Returns the byte array in float32. Raises TypeError as `validate`."""
    return ByteArray(tuple(s.as_float32() for s in self.segments))

  def to_array(self) -> jax.Array:
    """Concatenates the segments: [B, M, C] float32.

    Raises:
      TypeError: as `validate`.
    """
    return jnp.concatenate([s.to_array() for s in self.segments], axis=1)

  def mask(self) -> jax.Array | None:
    """Returns [B, M] bool, True where an element exists; None if all exist."""
    if all(segment.mask is None for segment in self.segments):
      return None
    masks = [
      jnp.ones(s.content.shape[:-1], bool) if s.mask is None else s.mask
      for s in self.segments
    ]
    return jnp.concatenate(
      [
        x.reshape(len(x), s.num_elements)
        for x, s in zip(masks, self.segments, strict=True)
      ],
      axis=1,
    )


def check(inputs: Any) -> None:
  """Checks a model's input.

  Raises:
    TypeError: if it is not a byte array, and as `ByteArray.validate`.
    ValueError: as `ByteArray.validate`.
  """
  if isinstance(inputs, ByteArray):
    inputs.validate()
    return
  got = type(inputs).__name__
  if hasattr(inputs, 'shape'):
    got += f' of shape {inputs.shape}'
  make = 'perceiver.ByteArray((segment,))'
  if not isinstance(inputs, Segment):
    make += (
      ' of segment = perceiver.Segment(content, positions), where positions are'
      ' such as perceiver.fourier_axes(content.shape[1:-1], num_bands=64)'
    )
  raise TypeError(f'Expected a perceiver.ByteArray, got {got}: make {make}.')


def _check_segments(segments: Any) -> None:
  """Raises TypeError unless this is a tuple of segments."""
  wrong = [] if isinstance(segments, tuple | list) else [segments]
  wrong = wrong or [x for x in segments if not isinstance(x, Segment)]
  if wrong:
    raise TypeError(
      'A byte array is of a tuple of perceiver.Segment, such as (segment,); got'
      f' {type(wrong[0]).__name__}.'
    )


@dataclasses.dataclass
class ModalityEncoding(hk.Module):
  """Makes modalities equally wide with learned encodings (section 4.2).

  The widest modality gets `num_channels` channels, the others as many as make
  them equally wide.
  """

  num_channels: int = 4
  init_scale: float = 0.02  # As for the latents; the paper does not say.
  name: str | None = None

  def __call__(self, segments: Mapping[str, Segment]) -> ByteArray:
    """Joins segments without encodings, named by modality, along M.

    Raises:
      TypeError: if a value is not a segment.
    """
    _check_segments(list(segments.values()))
    width = self.num_channels + max(s.num_channels for s in segments.values())
    encoded = []
    for modality, segment in segments.items():
      encoding = hk.get_parameter(
        modality,
        [width - segment.num_channels],
        init=hk.initializers.TruncatedNormal(self.init_scale),
      )
      encoded.append(dataclasses.replace(segment, encoding=encoding))
    return ByteArray(tuple(encoded))
