"""One clip of video or sound, decoded to what is stored of it.

Decoders are written in C: on bad data they may crash the process or never come
back, so `decode` is to be called in a process that may die (see `workers`).
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import itertools
import math
from typing import Any, get_args, Literal

import av
from av.stream import Disposition
import numpy as np

from experiments.benchmarks.audioset import pictures
from experiments.benchmarks.audioset.formats import describe, FORMATS
from experiments.benchmarks.audioset.source import FPS, MAX_SECONDS, SAMPLE_RATE
from experiments.benchmarks.images.decoding import MAX_PIXELS

# A sound that is off by more than a frame, by its timestamps, is moved.
MAX_DRIFT = 1 / FPS
# Seconds from where a video is decoded to where its part begins. Frames may be
# stored up to 16 frames later than they are shown (0.7 s at 24 Hz), so that the
# key frame before the part need not be one that its first frames refer to.
RUN_IN = 2.0
MAX_GAP = 10.0  # Seconds without a packet of picture or sound.

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

Kind = Literal['video', 'audio']


@dataclasses.dataclass(frozen=True)
class Timed:
  """A decoded frame; seconds are by the file's clock, or by the part's."""

  begin: float
  end: float
  frame: Any  # PyAV's.
  pixel_ratio: float  # Width to height; 1.0 for sound.


class MediaError(ValueError):
  """A file is no clip, or is damaged; says why."""


def decode(
  path: str, start: float = 0.0, seconds: float = MAX_SECONDS
) -> tuple[list[bytes], np.ndarray]:
  """Decodes a part of a file.

  Time zero is where the first of the two streams begins. Both are filled up, at
  the beginning and at the end, with the first and last frame or with silence:
  frame i and samples 1920 i to 1920 (i + 1) are of the same 40 ms. A frame is
  what is on display in the middle of them, whatever the video's own frame rate,
  turned and stretched as a player shows it.

  Args:
    path: of the file: mp4, mkv, webm or wav, whatever its name says.
    start: of the part, in seconds from time zero.
    seconds: that the part lasts, if the file does not end before.

  Returns:
    Frames, JPEG files of equal size at 25 a second whose short side is at most
    256 pixels; and samples [1920 frames] at 48 kHz, mono, int16. Of a stream
    that does not exist, or begins after the part, there are none, as of a sound
    that ends before it.

  Raises:
    MediaError: if it has neither, or a part of these cannot be decoded.
  """
  zero, streams = _open(path)
  if start > RUN_IN and 'video' in streams:
    # Sound is always decoded from its beginning, some 300 times as fast as it
    # is played: its decoders remember, and its samples are counted.
    streams['video'] = _seek(path, zero + start)
  max_frames = max(round(seconds * FPS), 1)
  jpegs: list[bytes] = []
  audio = np.zeros(0, np.int16)
  ends = []
  for kind, stream in streams.items():
    timed = _from(stream, zero + start, seconds)
    try:
      if kind == 'video':
        jpegs, end = _sample_video(timed, max_frames)
      else:
        audio, end = _resample_audio(timed, max_frames)
    except av.FFmpegError as error:  # As of frames with impossible formats.
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
    audio = _fill(audio, count * SAMPLES_PER_FRAME)
  return jpegs, audio


def length(path: str, limit: float = math.inf) -> float:
  """Returns how long a file lasts, from time zero to its last packet's end.

  Nothing is believed that a header says, and only first frames are decoded.

  Args:
    path: of the file, as for `decode`.
    limit: seconds. A file that lasts as long is read no further.

  Returns:
    Seconds.

  Raises:
    MediaError: if it has neither pictures nor sound, or cannot be read; or if
      it has nothing for MAX_GAP: a damaged timestamp is no length.
  """
  zero, streams = _open(path)
  end = zero
  with _container(path) as container:
    found = [_stream(container, kind) for kind in streams]
    try:
      for packet in container.demux(*found):
        time = packet.dts if packet.pts is None else packet.pts
        if time is None:
          continue
        begin = float(time * packet.time_base)
        if begin - end > MAX_GAP:
          raise MediaError(
            f'Its timestamps jump from {end - zero:.2f} to'
            f' {begin - zero:.2f} s.'
          )
        duration = float((packet.duration or 0) * packet.time_base)
        end = max(end, begin + duration)
        if end - zero >= limit:
          break
    except av.FFmpegError as error:
      raise MediaError(
        f'It cannot be read at {end - zero:.2f} s: {error.strerror}.'
      ) from error
  return end - zero


def _open(path: str) -> tuple[float, dict[Kind, Iterator[Timed]]]:
  """Time zero by the file's clock, and the streams that there are."""
  av.logging.set_level(av.logging.PANIC)
  streams: dict[Kind, Iterator[Timed]] = {}
  begins = []
  for kind in get_args(Kind):
    stream = _read(path, kind)
    if (first := next(stream, None)) is not None:
      streams[kind] = itertools.chain([first], stream)
      begins.append(first.begin)
  if not streams:
    raise MediaError('It has neither pictures nor sound.')
  return min(begins), streams


def _seek(path: str, time: float) -> Iterator[Timed]:
  """The frames of a video from some seconds before a time on, or from all."""
  with contextlib.suppress(MediaError):
    stream = _read(path, 'video', time - RUN_IN)
    first = next(stream, None)
    # By its index, or for want of one, a container may lead too far.
    if first is not None and first.begin <= time - RUN_IN / 2:
      return itertools.chain([first], stream)
  return _read(path, 'video')


def _read(path: str, kind: Kind, seek: float | None = None) -> Iterator[Timed]:
  """The frames of the best stream of a kind; none if there is no stream."""
  with _container(path) as container:
    if (stream := _stream(container, kind)) is None:
      return
    stream.codec_context.thread_count = 1  # There is a process a core.
    # Where a frame has no time, it follows the one before.
    time = 0.0 if seek is None else math.inf
    ratio = 1.0
    if kind == 'video' and stream.sample_aspect_ratio:
      ratio = float(stream.sample_aspect_ratio)
    try:
      if seek is not None:
        container.seek(math.floor(seek / stream.time_base), stream=stream)
      for frame in container.decode(stream):
        time = frame.time if frame.time is not None else time
        end = time + _duration(frame, stream)
        yield Timed(time, end, frame, ratio)
        time = end
    except av.FFmpegError as error:
      raise MediaError(
        f'Its {kind} cannot be decoded at {time:.2f} s: {error.strerror}.'
      ) from error


def _container(path: str) -> Any:
  """Opens a file. Raises MediaError if it is none of FORMATS."""
  try:
    return av.open(
      path,
      options={'format_whitelist': FORMATS, 'protocol_whitelist': 'file'},
      metadata_errors='replace',
    )
  except av.FFmpegError as error:
    reason = error.strerror
    if isinstance(error, av.ArgumentError | av.InvalidDataError):
      reason = describe(path) or reason
    raise MediaError(f'It cannot be opened: {reason}.') from error


def _stream(container: Any, kind: Kind) -> Any:
  """The best stream of a kind; None if there is none."""
  stream = container.streams.best(kind)
  if stream is None or stream.disposition & Disposition.attached_pic:
    return None  # A cover is no video.
  if stream.codec_context is None:
    raise MediaError(f'Its {kind} has an unknown codec.')
  return stream


def _duration(frame: Any, stream: Any) -> float:
  """Seconds that a frame lasts."""
  if stream.type == 'audio':
    return frame.samples / frame.sample_rate
  if frame.duration and frame.time_base:
    return float(frame.duration * frame.time_base)
  return 1 / float(stream.average_rate or FPS)


def _from(
  stream: Iterator[Timed], zero: float, seconds: float
) -> Iterator[Timed]:
  """By the part's clock; with the frame that ends what the last one shows."""
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
  """JPEG files at 25 a second from time 0 on; and where the last one ends."""
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
    elif timed.begin <= since:  # Late: another one is on display already.
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
  """Samples from time 0 on, silent where the stream has none; and the end."""
  audio = np.zeros(max_frames * SAMPLES_PER_FRAME, np.int16)
  end = 0
  for place, samples in _resampled(stream):
    first, last = np.clip([place, place + samples.size], 0, audio.size)
    if first < last:
      audio[first:last] = samples[first - place : last - place]
      end = max(end, last)
  return audio[:end], end / SAMPLE_RATE


def _resampled(stream: Iterator[Timed]) -> Iterator[tuple[int, np.ndarray]]:
  """Chunks at SAMPLE_RATE, each with the place of its first sample.

  Frames that follow each other are one run: in it samples are counted, because
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


def _fill(audio: np.ndarray, size: int) -> np.ndarray:
  """Cut, or filled up with silence, to a size."""
  return np.pad(audio, (0, max(size - audio.size, 0)))[:size]
