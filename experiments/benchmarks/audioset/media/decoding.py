"""Decodes a clip's video and sound to the form in which they are stored.

Decoders are written in C: on bad data they may crash the process or never
return, so `decode` is for processes that may die (see `workers`).
"""

from collections.abc import Iterator
import dataclasses
import math
from typing import Any

import av
import numpy as np

from experiments.benchmarks.audioset.media import pictures, streams
from experiments.benchmarks.audioset.media.streams import MediaError, Timed
from experiments.benchmarks.audioset.source import (
  FPS,
  MAX_SECONDS,
  SAMPLE_RATE,
  SAMPLES_PER_FRAME,
)
from experiments.benchmarks.images.decoding import MAX_PIXELS

# Sound is moved if its timestamps are off by more than a frame.
MAX_DRIFT = 1 / FPS


def decode(
  path: str, start: float = 0.0, seconds: float = MAX_SECONDS
) -> tuple[list[bytes], np.ndarray]:
  """Decodes a part of a file.

  Time zero is where the first of the two streams begins. Both are padded, at
  the beginning and at the end, with the first and last frame or with silence:
  frame i and samples 1920 i to 1920 (i + 1) are of the same 40 ms. A frame is
  what is on display in the middle of these, whatever the video's own frame
  rate, turned and stretched as a player shows it.

  Args:
    path: of a file in one of the `formats`, whatever its name says.
    start: of the part, in seconds from time zero.
    seconds: length of the part, if the file does not end before.

  Returns:
    Frames, JPEG files of equal size at 25 a second whose short side is at most
    256 pixels; and samples [1920 frames] at 48 kHz, mono, int16. Either is
    empty if its stream does not exist or begins after the part, and the samples
    also if the sound ends before it.

  Raises:
    MediaError: if both are empty, or something cannot be decoded.
  """
  zero, opened = streams.open_streams(path)
  if start > streams.RUN_IN and 'video' in opened:
    # Sound is always decoded from its beginning, some 300 times as fast as it
    # is played: its decoders have a state, and its samples are counted.
    opened['video'] = streams.seek_video(path, zero + start)
  max_frames = max(round(seconds * FPS), 1)
  jpegs: list[bytes] = []
  audio = np.zeros(0, np.int16)
  ends = []
  for kind, stream in opened.items():
    timed = _from(stream, zero + start, seconds)
    try:
      if kind == 'video':
        jpegs, end = _sample_video(timed, max_frames)
      else:
        audio, end = _resample_audio(timed, max_frames)
    except av.FFmpegError as error:  # Such as frames with impossible formats.
      raise MediaError(
        f'Its {kind} cannot be converted: {error.strerror}.'
      ) from error
    ends.append(end)
  if not jpegs and not audio.size:
    raise MediaError(f'It has neither pictures nor sound from {start:g} s on.')
  count = min(max(round(max(ends) * FPS), 1), max_frames)
  if jpegs:
    jpegs = (jpegs + jpegs[-1:] * count)[:count]
  if audio.size:
    size = count * SAMPLES_PER_FRAME
    audio = np.pad(audio, (0, max(size - audio.size, 0)))[:size]
  return jpegs, audio


def _from(
  stream: Iterator[Timed], zero: float, seconds: float
) -> Iterator[Timed]:
  """Yields a part's frames by its clock, and the one that ends the last one."""
  has_begun = False
  for timed in stream:
    begin = timed.begin - zero
    if begin < seconds or has_begun:
      yield dataclasses.replace(timed, begin=begin, end=timed.end - zero)
    if begin >= seconds:
      return
    has_begun = True


def _sample_video(
  stream: Iterator[Timed], max_frames: int
) -> tuple[list[bytes], float]:
  """Returns JPEG files at 25 a second from time 0 on, and their end."""
  jpegs: list[bytes] = []
  shown: Any = None  # The frame on display, from `since` on.
  display: Any = None
  since = end = 0.0

  def hold(until: float) -> None:
    # Frame i shows what is on display at (i + 1/2) / FPS.
    count = min(math.ceil(until * FPS - 0.5), max_frames) - len(jpegs)
    if count > 0:
      jpegs.extend([display.jpeg(shown)] * count)

  for timed in stream:
    frame = timed.frame
    if frame.width * frame.height > MAX_PIXELS:
      raise MediaError(f'It has frames of {frame.width} x {frame.height}.')
    if shown is None:
      display = pictures.display(frame, timed.pixel_ratio)
      since = min(timed.begin, 0.0)
    elif timed.begin <= since:  # Late: a later one is on display already.
      continue
    else:
      hold(timed.begin)
      since = timed.begin
    shown, end = frame, timed.end
  if shown is not None:
    hold(max(end, 1 / FPS))
  return jpegs, end


def _resample_audio(
  stream: Iterator[Timed], max_frames: int
) -> tuple[np.ndarray, float]:
  """Returns samples from time 0 on, silent in gaps, and their end."""
  audio = np.zeros(max_frames * SAMPLES_PER_FRAME, np.int16)
  end = 0
  for place, samples in _resampled(stream):
    first, last = np.clip([place, place + samples.size], 0, audio.size)
    if first < last:
      audio[first:last] = samples[first - place : last - place]
      end = max(end, last)
  return audio[:end], end / SAMPLE_RATE


def _resampled(stream: Iterator[Timed]) -> Iterator[tuple[int, np.ndarray]]:
  """Yields chunks at SAMPLE_RATE, each with the place of its first sample.

  In a run of frames that follow each other samples are counted, because
  containers round the times of frames.
  """
  resampler: av.AudioResampler | None = None
  form: Any = None
  start = length = 0.0
  place = 0

  def resample(frame: Any) -> Iterator[tuple[int, np.ndarray]]:
    nonlocal place
    if resampler is not None:
      for chunk in resampler.resample(frame):
        samples = chunk.to_ndarray()[0]
        yield place, samples
        place += samples.size

  for timed in stream:
    frame = timed.frame
    found = frame.format.name, frame.layout.name, frame.sample_rate
    if found != form or abs(timed.begin - start - length) > MAX_DRIFT:
      yield from resample(None)
      resampler = av.AudioResampler('s16', 'mono', SAMPLE_RATE)
      form, start, length = found, timed.begin, 0.0
      place = round(start * SAMPLE_RATE)
    yield from resample(frame)
    length += timed.end - timed.begin
  yield from resample(None)
