"""Reads the streams of media files: their frames, and how long they last."""

from collections.abc import Iterator
import contextlib
import dataclasses
import itertools
import math
from typing import Any, get_args, Literal

import av
from av.stream import Disposition

from experiments.benchmarks.audioset.media.formats import describe, FORMATS
from experiments.benchmarks.audioset.source import FPS

# Seconds before its part from which a video is decoded. Frames may be stored up
# to 16 frames later than they are shown (0.7 s at 24 Hz), so that the part's
# first frames may refer to an earlier key frame than the one before it.
RUN_IN = 2.0
# The same for containers without an index, which may lead to any frame: key
# frames are at most 10 s apart.
LONG_RUN_IN = 12.0
MAX_BEFORE_KEY = 720  # Frames: LONG_RUN_IN at 60 Hz.
MAX_GAP = 10.0  # Seconds without a packet of picture or sound.
# Titles need not be UTF-8: PyAV 19 takes them as they are, 18 has to be told.
_IS_NEW = int(av.__version__.partition('.')[0]) >= 19
_METADATA: Any = {} if _IS_NEW else {'metadata_errors': 'replace'}

Kind = Literal['video', 'audio']


@dataclasses.dataclass(frozen=True)
class Timed:
  """A decoded frame; seconds are by the file's clock, or by the part's."""

  begin: float
  end: float
  frame: Any  # PyAV's.
  pixel_ratio: float  # Width to height; 1.0 for sound.
  may_be_first: bool  # False if the decoder may not have what it refers to.


class MediaError(ValueError):
  """A file that is not a clip, or is damaged, with the reason."""


def length(path: str, limit: float = math.inf) -> float:
  """Returns how long a file lasts, from time zero to its last packet's end.

  It believes no header, and decodes only the first frames. A file that lasts
  longer than `limit` is read no further. Both are in seconds.

  Raises:
    MediaError: if it has neither pictures nor sound, or cannot be read; or if
      it has nothing for MAX_GAP, as with a damaged timestamp.
  """
  zero, streams = open_streams(path)
  end = zero
  with _container(path) as container:
    found = [_stream(container, kind) for kind in streams]
    try:
      for packet in container.demux(*found):
        time = packet.pts
        if time is None or container.format.name == 'avi':  # See `_decode`.
          time = packet.dts
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


def open_streams(path: str) -> tuple[float, dict[Kind, Iterator[Timed]]]:
  """Opens the picture and sound of a file of FORMATS, whatever its name.

  Returns:
    Time zero in seconds by the file's clock, where the first stream begins; and
    the frames of the streams that exist.

  Raises:
    MediaError: if there is neither, or something cannot be decoded.
  """
  av.logging.set_level(av.logging.PANIC)
  streams: dict[Kind, Iterator[Timed]] = {}
  begins = []
  for kind in get_args(Kind):
    stream = _from_start(path, kind)
    if (first := next(stream, None)) is not None:
      streams[kind] = itertools.chain([first], stream)
      begins.append(first.begin)
  if not streams:
    # FFmpeg takes anything named .flac for that.
    found = describe(path)
    raise MediaError(
      'It has neither pictures nor sound' + (f': {found}.' if found else '.')
    )
  return min(begins), streams


def seek_video(path: str, time: float) -> Iterator[Timed]:
  """Returns a video's frames from RUN_IN before a time, or from earlier.

  The time is in seconds by the file's clock.
  """
  for run_in in (RUN_IN, LONG_RUN_IN):
    stream = _from_key_frame(_read(path, 'video', time - run_in))
    # With its index, or without one, a container may lead too far.
    if (
      stream is not None and (first := next(stream)).begin <= time - RUN_IN / 2
    ):
      return itertools.chain([first], stream)
  return _from_start(path, 'video')


def _from_start(path: str, kind: Kind) -> Iterator[Timed]:
  """Returns the frames of a stream, without those that are made up."""
  return _from_key_frame(_read(path, kind)) or _read(path, kind)


def _from_key_frame(stream: Iterator[Timed]) -> Iterator[Timed] | None:
  """Returns frames from the first that may be; None if there is none soon."""
  with contextlib.suppress(MediaError):
    for timed in itertools.islice(stream, MAX_BEFORE_KEY):
      if timed.may_be_first:
        return itertools.chain([timed], stream)
  return None


def _read(path: str, kind: Kind, seek: float | None = None) -> Iterator[Timed]:
  """Yields the frames of the best stream of a kind, if there is one."""
  with _container(path) as container:
    if (stream := _stream(container, kind)) is None:
      return
    stream.codec_context.thread_count = 1  # There is one process per core.
    # A frame without a time follows the one before.
    time = 0.0 if seek is None else math.inf
    ratio = 1.0
    if kind == 'video' and stream.sample_aspect_ratio:
      ratio = float(stream.sample_aspect_ratio)
    # A transport stream may be cut anywhere, and without an index seeking leads
    # anywhere; its decoder makes up what comes before a key frame.
    begins_anywhere = container.format.name == 'mpegts' and kind == 'video'
    try:
      # The delay of an AVI's decoder shows only at the beginning (`_decode`).
      if seek is not None and not (
        container.format.name == 'avi' and stream.codec_context.has_b_frames
      ):
        container.seek(math.floor(seek / stream.time_base), stream=stream)
      for frame, found in _decode(container, stream):
        time = found if found is not None else time
        end = time + _duration(frame, stream)
        is_whole = not begins_anywhere or frame.key_frame
        yield Timed(time, end, frame, ratio, is_whole)
        time = end
    except av.FFmpegError as error:
      raise MediaError(
        f'Its {kind} cannot be decoded at {time:.2f} s: {error.strerror}.'
      ) from error


def _decode(container: Any, stream: Any) -> Iterator[tuple[Any, float | None]]:
  """Yields frames with their times in seconds, where these are known.

  An AVI has no times: the n-th picture is shown at the n-th packet's place. Its
  packets are in the order of decoding, and so is what FFmpeg guesses as `pts`.
  A picture's `dts` is the place of the last packet that the decoder had when it
  gave the picture out, later than the picture's own by a constant delay.
  """
  if container.format.name != 'avi' or stream.type != 'video':
    for frame in container.decode(stream):
      yield frame, frame.time
    return
  first = delay = None
  for packet in container.demux(stream):
    first = packet.dts if first is None else first
    for frame in packet.decode():
      if frame.dts is None:  # The last ones, which come after all packets.
        yield frame, None
        continue
      delay = frame.dts - first if delay is None else delay
      yield frame, float((frame.dts - delay) * stream.time_base)


def _container(path: str) -> Any:
  """Opens a file. Raises MediaError if it is in none of FORMATS."""
  try:
    return av.open(
      path,
      options={
        'format_whitelist': ','.join(FORMATS),
        'protocol_whitelist': 'file',
      },
      **_METADATA,
    )
  except av.FFmpegError as error:
    reason = error.strerror
    if isinstance(error, av.ArgumentError | av.InvalidDataError | av.EOFError):
      reason = describe(path) or reason
    raise MediaError(f'It cannot be opened: {reason}.') from error


def _stream(container: Any, kind: Kind) -> Any:
  """Returns the best stream of a kind; None if there is none."""
  stream = container.streams.best(kind)
  if stream is None or stream.disposition & Disposition.attached_pic:
    return None  # A cover is not a video.
  if stream.codec_context is None:
    raise MediaError(f'Its {kind} has an unknown codec.')
  return stream


def _duration(frame: Any, stream: Any) -> float:
  """Returns how many seconds a frame lasts."""
  if stream.type == 'audio':
    return frame.samples / frame.sample_rate
  if frame.duration and frame.time_base:
    return float(frame.duration * frame.time_base)
  return 1 / float(stream.average_rate or FPS)
