"""Log-mel spectrograms, on the device (section 4.2).

Glossary of shapes:
- B: batch; S: samples; F: mel bins; T: frames, one for every `hop` samples.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Slaney's mel scale: linear up to 1 kHz, then 27 steps for a factor of 6.4.
MEL_HZ = 200 / 3
LOG_START_HZ = 1000.0
LOG_STEP = np.log(6.4) / 27

# The least power: about 25 dB above the rounding noise of 16 bits.
FLOOR = 1e-6
# Those of the logarithm for sounds of usual loudness. Rough values are enough,
# because the model's layer norm follows.
MEAN, STDDEV = -7.0, 4.0


def _hz_to_mel(hz: float) -> float:
  if hz < LOG_START_HZ:
    return hz / MEL_HZ
  return LOG_START_HZ / MEL_HZ + np.log(hz / LOG_START_HZ) / LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
  start = LOG_START_HZ / MEL_HZ
  high = LOG_START_HZ * np.exp(LOG_STEP * np.maximum(mel - start, 0))
  return np.where(mel < start, MEL_HZ * mel, high)


def mel_filterbank(
  num_bins: int, num_fft: int, sample_rate: float
) -> np.ndarray:
  """Triangles of unit area, evenly spaced on Slaney's mel scale.

  Args:
    num_bins: F.
    num_fft: samples of a Fourier transform.
    sample_rate: Hz; the filters reach up to half of it.

  Returns:
    [F, num_fft / 2 + 1] float64 weights of the spectrum's power, per Hz.
  """
  hz = np.linspace(0, sample_rate / 2, num_fft // 2 + 1)
  top = _hz_to_mel(sample_rate / 2)
  corners = _mel_to_hz(np.linspace(0, top, num_bins + 2))[:, None]
  low, peak, high = corners[:-2], corners[1:-1], corners[2:]
  rising, falling = (hz - low) / (peak - low), (high - hz) / (high - peak)
  return np.maximum(np.minimum(rising, falling), 0) * 2 / (high - low)


def log_mel(
  samples: jax.Array, *, num_bins: int, hop: int, sample_rate: int
) -> jax.Array:
  """Returns the logarithm of the mel spectrogram of power.

  Frames are Hann windows of 2 hop samples; frame t is centred on the t-th hop
  samples, and the ends are reflected. `librosa.feature.melspectrogram` does the
  same with n_fft = 2 hop and center=False, if samples are padded by hop / 2 on
  both sides.

  Args:
    samples: [B, S] floats in [-1, 1]; hop divides S.
    num_bins: F.
    hop: samples between frames, even.
    sample_rate: Hz.

  Returns:
    [B, F, S / hop] float32, natural logarithms of at least `FLOOR`.
  """
  batch = samples.shape[0]
  padded = jnp.pad(samples, ((0, 0), (hop // 2, hop // 2)), mode='reflect')
  blocks = padded.reshape(batch, padded.shape[1] // hop, hop)
  frames = jnp.concatenate([blocks[:, :-1], blocks[:, 1:]], axis=-1)
  window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)
  spectrum = jnp.fft.rfft(frames * window.reshape(1, 1, -1).astype(np.float32))
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)  # [B, T, bins]
  filters = mel_filterbank(num_bins, 2 * hop, sample_rate).astype(np.float32)
  mel = jnp.einsum(
    'btk,fk->bft', power, filters, precision=jax.lax.Precision.HIGHEST
  )
  return jnp.log(jnp.maximum(mel, FLOOR))
