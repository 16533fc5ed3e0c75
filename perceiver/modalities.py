"""From arrays as people have them to the byte array: a class for each modality.

Each is plain data, so that a file can say what a model's input is. Arrays are
made ready in two steps: `prepare` on the host, in NumPy, and `content` on the
device, where integers become floats.

Glossary of shapes:
- B: batch; H, W: height and width; T: frames of video.
- M: input elements; F: mel bins; S: samples.
"""

import abc
from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import Annotated, Any, ClassVar

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver import ranges, spectrogram
from perceiver.inputs import ByteArray, ModalityEncoding, Segment
from perceiver.ops import hardware
from perceiver.position_encoding import (
  fourier_axes,
  fourier_points,
  LearnedPositions,
)
from perceiver.ranges import Count, Positive, Range

# What the positions of an axis may take; a lying file is to take no more.
MAX_FEATURES = 1 << 26
Seed = Annotated[int, Range('[0, 4294967295]')]
Number = Annotated[float, Range('(-inf, inf)')]

POSITIONS = ('fourier', 'learned')


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

  def check(self, array: Any) -> None:
    """Raises ValueError for an array that is no batch of these."""
    if np.ndim(array) < 1 or np.shape(array)[1:] != self.shape:
      raise ValueError(
        f'{self.source!r} of shape {np.shape(array)}; expected'
        f' [B, {", ".join(map(str, self.shape))}].'
      )

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

  @abc.abstractmethod
  def segment(self, content: jax.Array) -> Segment:
    """The content with its positions; may have parameters."""


@dataclasses.dataclass(frozen=True)
class Image(Modality):
  """Images [H, W, channels], an element for each pixel (section 4.1)."""

  height: Count
  width: Count
  channels: Count
  mean: tuple[Number, ...]  # Of pixels, for each channel.
  stddev: tuple[Positive, ...]
  positions: str = 'fourier'  # Or 'learned' (Table 2, appendix B).
  max_resolution: Positive | None = None  # μ; None: the height, the width.
  position_channels: Count = 128  # P, of learned positions.
  # Pixels in another order, drawn from this seed (Table 2); None: as they are.
  permutation_seed: Seed | None = None
  # Channels that a learned linear layer makes of a pixel's; None: there is no
  # such layer, as in the paper.
  projection: Count | None = None
  source = 'image'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.positions not in POSITIONS:
      raise ValueError(f'positions={self.positions!r} is none of {POSITIONS}.')
    for name in ('mean', 'stddev'):
      if len(getattr(self, name)) != self.channels:
        raise ValueError(
          f'{name}={getattr(self, name)} is not of {self.channels} channels.'
        )

  @property
  def shape(self) -> tuple[int, ...]:
    return self.height, self.width, self.channels

  @property
  def takes_any_size(self) -> bool:
    """Whether positions are there for images of other heights and widths."""
    return (
      self.positions == 'fourier'
      and self.max_resolution is not None
      and self.permutation_seed is None
    )

  def check(self, array: Any) -> None:
    if not self.takes_any_size:
      super().check(array)
    elif np.ndim(array) != 4 or np.shape(array)[3] != self.channels:
      raise ValueError(
        f'{self.source!r} of shape {np.shape(array)}; expected'
        f' [B, height, width, {self.channels}].'
      )

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Normalized: less the mean, by the standard deviation."""
    del mesh
    image = array.astype(jnp.float32)
    if normalized:
      return image
    spread = lambda x: jnp.reshape(jnp.array(x, jnp.float32), (1, 1, 1, -1))
    return (image - spread(self.mean)) / spread(self.stddev)

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
    # The position features are attached before: they move along.
    return segment.permute(permutation(self.permutation_seed, math.prod(grid)))


@dataclasses.dataclass(frozen=True)
class Points(Modality):
  """Point clouds [M, 3]: nothing but features of coordinates (section 4.3)."""

  num_points: Count
  max_resolution: Positive  # μ: the unit cube's side, in elements.
  # (height, width) that the points stand on, in their order; None: a set.
  grid: tuple[Count, Count] | None = None
  source = 'points'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.grid is not None and math.prod(self.grid) != self.num_points:
      raise ValueError(f'grid={self.grid} has not {self.num_points} places.')

  @property
  def shape(self) -> tuple[int, ...]:
    return self.num_points, 3

  def check(self, array: Any) -> None:
    if self.grid is not None:
      super().check(array)
    elif np.ndim(array) != 3 or np.shape(array)[2] != 3:
      raise ValueError(
        f'{self.source!r} of shape {np.shape(array)}; expected [B, M, 3].'
      )

  def prepare(self, array: Any, normalized: bool = False) -> Any:
    """Normalized: as `normalize_points` makes them."""
    array = np.asarray(array, np.float32)
    return array if normalized else np.stack([*map(normalize_points, array)])

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    del normalized, mesh
    return array.reshape(len(array), *(self.grid or array.shape[1:2]), 3)

  def segment(self, content: jax.Array) -> Segment:
    nothing = jnp.zeros((*content.shape[:-1], 0))
    positions = fourier_points(content, self.num_bands, self.max_resolution)
    return Segment(nothing, positions)


@dataclasses.dataclass(frozen=True)
class Video(Modality):
  """Videos [T, H, W, 3], an element for each patch (section 4.2).

  The max resolutions are the patches on each axis.
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

  @property
  def prepared(self) -> jax.ShapeDtypeStruct:
    """In patches: a TPU works on 128 channels at once, a pixel has three."""
    shape = (*self.grid, 3 * math.prod(self.patch_shape))
    return jax.ShapeDtypeStruct(shape, np.uint8)

  def prepare(self, array: Any, normalized: bool = False) -> Any:
    del normalized
    return cut_patches(np.asarray(array), self.patch_shape)

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Normalized: from -1 to 1, not from 0 to 255."""
    del mesh
    content = array.astype(jnp.float32)
    return content if normalized else content / 127.5 - 1

  def segment(self, content: jax.Array) -> Segment:
    return _on_grid(content, self.num_bands)


@dataclasses.dataclass(frozen=True)
class RawAudio(Modality):
  """Sound [S], an element for some samples (section 4.2).

  The max resolution is the number of elements.
  """

  num_samples: Count
  samples_per_element: Count
  source = 'audio'
  dtype = np.int16

  def __post_init__(self) -> None:
    super().__post_init__()
    _check_divides(self, 'samples_per_element')

  @property
  def shape(self) -> tuple[int, ...]:
    return (self.num_samples,)

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Normalized: floats from -1 to 1, not 16-bit integers."""
    del mesh
    samples = _samples(array, normalized)
    return samples.reshape(len(samples), -1, self.samples_per_element)

  def segment(self, content: jax.Array) -> Segment:
    return _on_grid(content, self.num_bands)


@dataclasses.dataclass(frozen=True)
class MelSpectrogram(Modality):
  """Sound [S], an element for a mel bin of a frame (section 4.2).

  The max resolutions are the bins and the frames.
  """

  num_samples: Count
  num_mel_bins: Count
  mel_hop: Count  # Samples.
  sample_rate: Count = 48_000  # Hz
  source = 'audio'
  dtype = np.int16

  def __post_init__(self) -> None:
    super().__post_init__()
    _check_divides(self, 'mel_hop')

  @property
  def shape(self) -> tuple[int, ...]:
    return (self.num_samples,)

  @property
  def grid(self) -> tuple[int, int]:
    """Bins and frames."""
    return self.num_mel_bins, self.num_samples // self.mel_hop

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Normalized: floats from -1 to 1, not 16-bit integers."""
    log_mel: Callable[..., jax.Array] = functools.partial(
      spectrogram.log_mel,
      num_bins=self.num_mel_bins,
      hop=self.mel_hop,
      sample_rate=self.sample_rate,
    )
    # XLA would gather the sound of all devices for its Fourier transforms.
    log_mel = hardware.on_each_device(log_mel, mesh)
    mel = log_mel(_samples(array, normalized))  # [B, F, frames]
    return ((mel - spectrogram.MEAN) / spectrogram.STDDEV)[..., None]

  def segment(self, content: jax.Array) -> Segment:
    return _on_grid(content, self.num_bands)


# By the name that a file gives them.
MODALITIES: dict[str, type[Modality]] = {
  'image': Image,
  'points': Points,
  'video': Video,
  'raw_audio': RawAudio,
  'mel_spectrogram': MelSpectrogram,
}


def to_json(modality: Modality) -> dict[str, Any]:
  """What `from_json` takes."""
  (kind,) = (k for k, cls in MODALITIES.items() if cls is type(modality))
  return {'type': kind, **dataclasses.asdict(modality)}


def from_json(data: Any) -> Modality:
  """Raises ValueError for what is no modality, and says why."""
  if not isinstance(data, dict) or data.get('type') not in MODALITIES:
    raise ValueError(f"'type' must be one of {sorted(MODALITIES)}: {data!r}")
  cls = MODALITIES[data['type']]
  arguments: dict[str, Any] = {
    name: tuple(x) if isinstance(x, list) else x
    for name, x in data.items()
    if name != 'type'
  }
  unknown = arguments.keys() - {x.name for x in dataclasses.fields(cls)}
  if unknown:
    raise ValueError(f'unknown keys {sorted(unknown)} of {data["type"]!r}')
  try:
    return cls(**arguments)
  except TypeError as error:
    raise ValueError(f'{data["type"]!r}: {error}') from error


def byte_array(
  modalities: Mapping[str, Modality],
  batch: Mapping[str, jax.Array],
  *,
  normalized: bool = False,
  mesh: Mesh | None = None,
) -> ByteArray:
  """The model's input; to be called inside a Haiku transform.

  Args:
    modalities: by name; several get modality encodings of these names.
    batch: arrays by their source, as `Modality.prepare` left them. A bool array
      'has_SOURCE' [B] tells which examples have it, 'NAME_mask' [B, *grid]
      which elements of a modality stay; others are zero where they enter the
      model, so that their positions and encodings stay.
    normalized: as of `Modality.content`.
    mesh: the devices that the program is for; None: JAX's own.

  Returns:
    The byte array of all modalities.
  """
  segments = {}
  for name, modality in modalities.items():
    content = modality.content(batch[modality.source], normalized, mesh)
    for key in (f'{name}_mask', f'has_{modality.source}'):
      if key in batch:
        content = _zero_unless(batch[key], content)
    segments[name] = modality.segment(content)
  if len(segments) == 1:
    return ByteArray(tuple(segments.values()))
  return ModalityEncoding()(segments)


def permutation(seed: int, size: int) -> np.ndarray:
  """An order of elements, the same for the same seed."""
  return np.random.default_rng(seed).permutation(size)


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


def cut_patches(
  video: np.ndarray, patch_shape: tuple[int, int, int]
) -> np.ndarray:
  """Cuts videos into patches of some frames, lines and columns.

  Args:
    video: [..., frames, height, width, 3].
    patch_shape: what divides the three.

  Returns:
    [..., *grid, channels]: the frames, lines, columns and colours of each
    patch, in this order.
  """
  *leading, frames, height, width, colors = video.shape
  sizes = zip((frames, height, width), patch_shape, strict=True)
  split = [n for size, part in sizes for n in (size // part, part)]
  patches = video.reshape(-1, *split, colors).transpose(0, 1, 3, 5, 2, 4, 6, 7)
  return patches.reshape(*leading, *split[::2], -1)


def _on_grid(content: jax.Array, num_bands: int) -> Segment:
  """With Fourier features up to the grid's own resolution."""
  return Segment(content, fourier_axes(content.shape[1:-1], num_bands))


def _samples(audio: jax.Array, normalized: bool) -> jax.Array:
  samples = audio.astype(jnp.float32)
  return samples if normalized else samples / 32768


def _zero_unless(exists: jax.Array, content: jax.Array) -> jax.Array:
  """Zeros where `exists`, of fewer axes, is false."""
  more = (1,) * (content.ndim - exists.ndim)
  return jnp.where(exists.reshape(*exists.shape, *more), content, 0)


def _check_divides(modality: Modality, key: str) -> None:
  samples, part = modality.shape[0], getattr(modality, key)
  if samples % part:
    raise ValueError(f'{key}={part} does not divide the {samples} samples.')
