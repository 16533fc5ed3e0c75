"""Mel spectrograms agree with librosa's."""

import jax
import librosa
import numpy as np
import pytest

from perceiver.modalities import spectrogram

RATE, HOP, BINS = 48_000, 1024, 80
SAMPLES = 61_440


def sounds():
  """Makes a tone, a sweep, noise, speech-like bursts, a click and silence."""
  rng = np.random.default_rng(0)
  t = np.arange(SAMPLES) / RATE
  sweep = np.sin(2 * np.pi * (50 * t + 9000 * t**2))
  noise = rng.normal(size=SAMPLES) * 0.1
  click = np.zeros(SAMPLES)
  click[30_000] = 1
  bursts = noise * (np.sin(2 * np.pi * 3 * t) > 0) + 0.2 * np.sin(900 * t)
  tone = 0.9 * np.sin(2 * np.pi * 440 * t)
  stack = np.stack([tone, sweep, noise, bursts, click, 0 * t])
  return np.round(stack * 32767).astype(np.int16)


@pytest.mark.slow
@pytest.mark.parametrize(('bins', 'hop'), [(BINS, HOP), (32, 1920)])
def test_log_mel_is_librosas(bins, hop):
  samples = sounds().astype(np.float32) / 32768
  ours = jax.jit(
    lambda x: spectrogram.log_mel(x, num_bins=bins, hop=hop, sample_rate=RATE)
  )(samples)
  assert ours.shape == (len(samples), bins, SAMPLES // hop)
  padded = np.pad(samples, ((0, 0), (hop // 2, hop // 2)), mode='reflect')
  power = librosa.feature.melspectrogram(
    y=padded.astype(np.float64),
    sr=RATE,
    n_fft=2 * hop,
    hop_length=hop,
    n_mels=bins,
    center=False,
  )
  theirs = np.log(np.maximum(power, spectrogram.FLOOR))
  assert np.ptp(theirs) > 15
  error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
  assert error <= 1e-4
  # To 0.02 dB in all bins: float32 rounding of a loud tone reaches each.
  assert np.abs(ours - theirs).max() <= 0.02 * np.log(10) / 10


def test_the_filters_are_librosas():
  for bins, num_fft in ((80, 2048), (128, 4096)):
    np.testing.assert_allclose(
      spectrogram.mel_filterbank(bins, num_fft, RATE),
      librosa.filters.mel(sr=RATE, n_fft=num_fft, n_mels=bins, dtype=float),
      atol=1e-12,
    )


def test_a_frame_is_centred_on_its_samples():
  samples = np.zeros((1, SAMPLES), np.float32)
  samples[0, 10 * HOP + HOP // 2] = 1
  mel = spectrogram.log_mel(samples, num_bins=BINS, hop=HOP, sample_rate=RATE)
  loudness = np.asarray(mel).mean(axis=1)[0]
  assert loudness.argmax() == 10
  # The same distance from the click.
  np.testing.assert_allclose(loudness[9], loudness[11], rtol=1e-5)
