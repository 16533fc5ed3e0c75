"""Sound, as it is or as a mel spectrogram (section 4.2)."""

from collections.abc import Callable
import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver.inputs import Segment
from perceiver.modalities import spectrogram
from perceiver.modalities.base import Modality, on_grid
from perceiver.ops import hardware
from perceiver.ranges import Count


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
    return on_grid(content, self.num_bands)


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
    return on_grid(content, self.num_bands)


def _samples(audio: jax.Array, normalized: bool) -> jax.Array:
  samples = audio.astype(jnp.float32)
  return samples if normalized else samples / 32768


def _check_divides(modality: Modality, key: str) -> None:
  samples, part = modality.shape[0], getattr(modality, key)
  if samples % part:
    raise ValueError(f'{key}={part} does not divide the {samples} samples.')
