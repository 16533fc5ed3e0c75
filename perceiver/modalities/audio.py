"""Sound, as it is or as a mel spectrogram (section 4.2)."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from perceiver.modalities import spectrogram
from perceiver.modalities.base import Modality
from perceiver.ops.cross_attention import hardware
from perceiver.ranges import Count


@dataclasses.dataclass(frozen=True)
class Audio(Modality):
  """Base class of the two forms of sound [S]."""

  num_samples: Count
  source = 'audio'
  dtype = np.int16
  divisor: ClassVar[str]  # Name of the field that must divide the samples.

  def __post_init__(self) -> None:
    super().__post_init__()
    part = getattr(self, self.divisor)
    if self.num_samples % part:
      raise ValueError(
        f'{self.divisor}={part} does not divide the {self.num_samples} samples.'
      )

  @property
  def shape(self) -> tuple[int, ...]:
    return (self.num_samples,)

  def range(self, normalized: bool) -> tuple[float, float]:
    return (-1.0, 1.0) if normalized else (-32768.0, 32767.0)

  def check(self, array: Any, normalized: bool = False) -> None:
    super().check(array, normalized)
    if jnp.issubdtype(array.dtype, jnp.unsignedinteger):
      raise ValueError(
        f'{self.source!r} of {array.dtype}; expected int16, whose silence is 0.'
      )

  def samples(self, array: jax.Array, normalized: bool) -> jax.Array:
    """Returns [B, S] floats from -1 to 1."""
    samples = array.astype(jnp.float32)
    return samples if normalized else samples / 32768


@dataclasses.dataclass(frozen=True)
class RawAudio(Audio):
  """Sound [S], with an element per run of samples (section 4.2).

  The max resolution is the number of elements.
  """

  samples_per_element: Count
  divisor = 'samples_per_element'

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Takes floats from -1 to 1 if `normalized`, else 16-bit integers."""
    del mesh
    samples = self.samples(array, normalized)
    size = self.samples_per_element
    return samples.reshape(len(samples), self.num_samples // size, size)


@dataclasses.dataclass(frozen=True)
class MelSpectrogram(Audio):
  """Sound [S], with an element per mel bin and frame (section 4.2).

  The max resolutions are the numbers of bins and of frames.
  """

  num_mel_bins: Count
  mel_hop: Count  # Samples.
  sample_rate: Count = 48_000  # Hz
  divisor = 'mel_hop'

  @property
  def grid(self) -> tuple[int, int]:
    """Bins and frames."""
    return self.num_mel_bins, self.num_samples // self.mel_hop

  def content(
    self, array: jax.Array, normalized: bool = False, mesh: Mesh | None = None
  ) -> jax.Array:
    """Takes floats from -1 to 1 if `normalized`, else 16-bit integers."""
    log_mel: Callable[..., jax.Array] = functools.partial(
      spectrogram.log_mel,
      num_bins=self.num_mel_bins,
      hop=self.mel_hop,
      sample_rate=self.sample_rate,
    )
    # XLA would gather the sound of all devices for its Fourier transforms.
    log_mel = hardware.on_each_device(log_mel, mesh)
    mel = log_mel(self.samples(array, normalized))  # [B, F, frames]
    return ((mel - spectrogram.MEAN) / spectrogram.STDDEV)[..., None]
