"""One clip of video or sound, decoded to what is stored of it.

Decoders are written in C: on bad data they may crash the process or never come
back, so `decode` is to be called in a process that may die (see `workers`).
"""

from collections.abc import Iterator
import io
import itertools
import math
from typing import Any, get_args, Literal

import av
from av.stream import Disposition
import numpy as np

from experiments.benchmarks.audioset.source import FPS, MAX_SECONDS, SAMPLE_RATE
from experiments.benchmarks.images.decoding import MAX_PIXELS

SHORT_SIDE = 256  # Pixels; smaller videos are not enlarged.
JPEG_QUALITY = 85
# A sound that is off by more than a frame, by its timestamps, is moved.
MAX_DRIFT = 1 / FPS
# Others may refer to further files, or to the network.
FORMATS = 'mov,matroska,wav'  # FFmpeg's names; mp4 is mov's, webm matroska's.

MAX_FRAMES = MAX_SECONDS * FPS
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

# Begin and end in seconds by the file's clock, and PyAV's frame.
Timed = tuple[float, float, Any]
Kind = Literal['video', 'audio']


class MediaError(ValueError):
  """A file is no clip, or is damaged; says why."""


def decode(path: str) -> tuple[list[bytes], np.ndarray]:
  """Decodes the first ten seconds of a file.

  Time zero is where the first of the two streams begins. Both are filled up, at
  the beginning and at the end, with the first and last frame or with silence:
  frame i and samples 1920 i to 1920 (i + 1) are of the same 40 ms. A frame is
  what is on display in the middle of them, whatever the video's own frame rate.

  Args:
    path: of the file: mp4, mkv, webm or wav, whatever its name says.

  Returns:
    Frames, JPEG files of equal size at 25 a second whose short side is at most
    256 pixels; and samples [1920 frames] at 48 kHz, mono, int16. Of a stream
    that does not exist, or begins after the ten seconds, there are none.

  Raises:
    MediaError: if it has neither, or a part of these cannot be decoded.
  """
  av.logging.set_level(av.logging.PANIC)
  streams: dict[str, Iterator[Timed]] = {}
  begins = []
  for kind in get_args(Kind):
    stream = _read(path, kind)
    if (first := next(stream, None)) is not None:
      streams[kind] = itertools.chain([first], stream)
      begins.append(first[0])
  if not streams:
    raise MediaError('It has neither pictures nor sound.')
  zero = min(begins)
  jpegs: list[bytes] = []
  audio = np.zeros(0, np.int16)
  ends = []
  for kind, stream in streams.items():
    timed = _from(stream, zero)
    try:
      if kind == 'video':
        jpegs, end = _sample_video(timed)
      else:
        audio, end = _resample_audio(timed)
    except av.FFmpegError as error:  # As of frames with impossible formats.
      raise MediaError(
        f'Its {kind} cannot be converted: {error.strerror}.'
      ) from error
    ends.append(end)
  count = min(max(round(max(ends) * FPS), 1), MAX_FRAMES)
  if jpegs:
    jpegs = (jpegs + jpegs[-1:] * count)[:count]
  if audio.size:
    audio = _fill(audio, count * SAMPLES_PER_FRAME)
  return jpegs, audio


def _read(path: str, kind: Kind) -> Iterator[Timed]:
  """The frames of the best stream of a kind; none if there is no stream."""
  try:
    container = av.open(
      path,
      options={'format_whitelist': FORMATS, 'protocol_whitelist': 'file'},
      metadata_errors='replace',
    )
  except av.FFmpegError as error:
    raise MediaError(f'It cannot be opened: {error.strerror}.') from error
  time = 0.0
  with container:
    stream = container.streams.best(kind)
    if stream is None or stream.disposition & Disposition.attached_pic:
      return  # A cover is no video.
    if stream.codec_context is None:
      raise MediaError(f'Its {kind} has an unknown codec.')
    stream.codec_context.thread_count = 1  # There is a process a core.
    frames: Iterator[Any] = container.decode(stream)
    try:
      for frame in frames:
        # Where a frame has no time, it follows the one before.
        time = frame.time if frame.time is not None else time
        end = time + _duration(frame, stream)
        yield time, end, frame
        time = end
    except av.FFmpegError as error:
      raise MediaError(
        f'Its {kind} cannot be decoded at {time:.2f} s: {error.strerror}.'
      ) from error


def _duration(frame: Any, stream: Any) -> float:
  """Seconds that a frame lasts."""
  if stream.type == 'audio':
    return frame.samples / frame.sample_rate
  if frame.duration and frame.time_base:
    return float(frame.duration * frame.time_base)
  return 1 / float(stream.average_rate or FPS)


def _from(stream: Iterator[Timed], zero: float) -> Iterator[Timed]:
  """By the clip's clock, as far as it goes."""
  for begin, end, frame in stream:
    if begin - zero >= MAX_SECONDS:
      return
    yield begin - zero, end - zero, frame


def _sample_video(stream: Iterator[Timed]) -> tuple[list[bytes], float]:
  """JPEG files at 25 a second from time 0 on; and where the last one ends."""
  jpegs: list[bytes] = []
  shown: Any = None  # The frame on display, from `since` on.
  since = end = 0.0
  size = (0, 0)

  def hold(until: float) -> None:
    # Frame i shows what is on display at (i + 1/2) / FPS.
    count = min(math.ceil(until * FPS - 0.5), MAX_FRAMES) - len(jpegs)
    if count > 0:
      jpegs.extend([_jpeg(shown, size)] * count)

  for begin, until, frame in stream:
    if frame.width * frame.height > MAX_PIXELS:
      raise MediaError(f'It has frames of {frame.width} x {frame.height}.')
    if shown is None:
      size = _fit(frame.width, frame.height)
    elif begin <= since:  # Late: another one is on display already.
      continue
    else:
      hold(begin)
      since = begin
    shown, end = frame, until
  if shown is not None:
    hold(max(end, 1 / FPS))
  return jpegs, end


def _fit(width: int, height: int) -> tuple[int, int]:
  scale = min(1.0, SHORT_SIDE / min(width, height))
  return round(width * scale), round(height * scale)


def _jpeg(frame: Any, size: tuple[int, int]) -> bytes:
  buffer = io.BytesIO()
  image = frame.to_image(width=size[0], height=size[1])
  image.save(buffer, 'JPEG', quality=JPEG_QUALITY)
  return buffer.getvalue()


def _resample_audio(stream: Iterator[Timed]) -> tuple[np.ndarray, float]:
  """Samples from time 0 on, silent where the stream has none; and the end."""
  audio = np.zeros(0, np.int16)
  end = 0.0
  for begin, chunks in _runs(stream):
    start = round(max(begin, 0.0) * SAMPLE_RATE)
    audio = np.concatenate([_fill(audio, start), *chunks])
    end = audio.size / SAMPLE_RATE
  return audio, end


def _runs(stream: Iterator[Timed]) -> Iterator[tuple[float, list[np.ndarray]]]:
  """Parts whose frames follow each other: where each begins, its samples."""
  resampler: av.AudioResampler | None = None
  chunks: list[np.ndarray] = []
  form: Any = None
  start = length = 0.0

  def resample(frame: Any) -> None:
    assert resampler is not None
    chunks.extend(x.to_ndarray()[0] for x in resampler.resample(frame))

  for begin, until, frame in stream:
    found = frame.format.name, frame.layout.name, frame.sample_rate
    if found != form or abs(begin - start - length) > MAX_DRIFT:
      if resampler is not None:
        resample(None)
        yield start, chunks
      resampler = av.AudioResampler('s16', 'mono', SAMPLE_RATE)
      chunks, form, start, length = [], found, begin, 0.0
    resample(frame)
    length += until - begin
  if resampler is not None:
    resample(None)
    yield start, chunks


def _fill(audio: np.ndarray, size: int) -> np.ndarray:
  """Cut, or filled up with silence, to a size."""
  return np.pad(audio, (0, max(size - audio.size, 0)))[:size]
