"""Decodes clips to small files, parts, and joins parts to array_record files.

Any number of processes, on any machines, may work on the same clip or file:
those that a kill left behind go on for a while. Each writes under a name of its
own, and a whole file replaces another's, which has the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
import math
import os
import secrets

from array_record.python import array_record_module
import numpy as np

from experiments.benchmarks.audioset import source
from experiments.benchmarks.audioset.clips import Clip
from experiments.benchmarks.audioset.media import decoding, streams
from experiments.errors import FAULTS, PreparationError

PARTS = 'parts'  # The folder of the parts; it is removed in the end.
SKIPPED = '.skipped'  # Suffix of a file that says why a part is missing.
# Seconds by which a file and its segment may differ. Encoders of sound add
# up to 0.2 s (HE-AAC at 22.05 kHz: 2 frames of 2048 samples), and a cut video
# has up to one frame more or less (0.2 s at 5 Hz).
TOLERANCE = 0.5


@dataclasses.dataclass(frozen=True)
class File:
  """A file of array_record, with some consecutive clips of a split."""

  path: str
  split: str
  clips: Sequence[Clip]
  parts: Sequence[str]  # Paths, by clip.


@dataclasses.dataclass(frozen=True)
class Decoding:
  """A clip to decode, and where to."""

  clip: Clip
  part: str
  file: int  # Number of the file that it will go to.


def decode_clip(job: Decoding) -> str | None:
  """Writes a clip's records to its part, or returns why it is skipped.

  Raises:
    OSError: if the part cannot be written, or the clip has disappeared.
  """
  path = job.clip.path
  try:
    start, seconds = _part(job.clip)
    frames, audio = decoding.decode(os.path.abspath(path), start, seconds)
  except FAULTS:  # Such as a version of PyAV without a function.
    raise
  except Exception as error:  # Damaged data may raise almost any other.
    # It was there, so a disk or a network fails: all further clips would be
    # skipped.
    if not os.path.exists(path):
      raise FileNotFoundError(
        f'{path} is gone, or cannot be reached. When it is back, the'
        ' same command goes on.'
      ) from None
    known = isinstance(error, streams.MediaError)
    return str(error) if known else f'{type(error).__name__}: {error}'
  segment = job.clip.segment
  record = source.Record(
    id=segment.id,
    labels=np.array(segment.labels),
    frames=frames,
    audio=audio,
  )
  with writing(job.part, os.path.dirname(job.part)) as temporary:
    write_records(temporary, source.encode(record))
  return None


def _part(clip: Clip) -> tuple[float, float]:
  """Returns where in its file a clip is: start and length in seconds.

  The file is the clip alone unless it is longer. Then it must be the whole
  video: it reaches the segment's end, and its name does not say that it begins
  at the segment's start.

  Raises:
    streams.MediaError: if it is neither.
  """
  segment = clip.segment
  expected = segment.end - segment.start
  begins_there = clip.is_named_by_start and segment.start > TOLERANCE
  limit = math.inf if begins_there else segment.end + TOLERANCE
  length = streams.length(os.path.abspath(clip.path), limit)
  if length <= expected + TOLERANCE:
    # It may be shorter: the video ended there.
    return 0.0, source.MAX_SECONDS
  if begins_there:
    raise streams.MediaError(
      f'It lasts {length:.2f} s, but its name says that it begins with its clip'
      f' of {expected:g} s: cut it, or name it {segment.id} if it is the whole'
      ' video.'
    )
  if length < segment.end - TOLERANCE:
    raise streams.MediaError(
      f'It lasts {length:.2f} s, longer than its clip of {expected:g} s; the'
      f' whole video lasts at least {segment.end:g} s. Where in it the clip is'
      ' cannot be known: cut it.'
    )
  return segment.start, expected


def join(file: File) -> None:
  """Joins the parts of a file; clips that were skipped have none.

  Raises:
    OSError: if the file cannot be written.
    PreparationError: if a part is damaged.
  """
  try:
    with writing(file.path, os.path.dirname(file.parts[0])) as temporary:
      write_records(temporary, _joined(file.parts))
  except (OSError, PreparationError):
    # Another process may have joined it, and removed the parts.
    if not os.path.exists(file.path):
      raise
  remove(file.parts)


def _joined(parts: Iterable[str]) -> Iterator[bytes]:
  for part in parts:
    if os.path.exists(part + SKIPPED):
      continue
    try:
      reader = array_record_module.ArrayRecordReader(part)
      records = reader.read_all()
      reader.close()
    except RuntimeError as error:  # Such as after a power failure.
      remove([part])
      raise PreparationError(
        f'{part} was damaged, so it is removed ({error}). The same command'
        ' makes it again.'
      ) from None
    yield from records


@contextlib.contextmanager
def writing(path: str, folder: str) -> Iterator[str]:
  """Yields a temporary name in `folder`; renames the whole file to `path`.

  Raises OSError if it cannot be written; the message says what to do.
  """
  name = f'{os.path.basename(path)}.{secrets.token_hex(8)}.tmp'
  temporary = os.path.join(folder, name)
  try:
    yield temporary
    with open(temporary, 'rb') as file:
      os.fsync(file.fileno())  # Some systems only say here that a disk is full.
    os.replace(temporary, path)
  except Exception as error:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    if not isinstance(error, OSError | RuntimeError):
      raise
    raise OSError(
      f'{path} cannot be written ({error}). When it can be, the same command'
      ' goes on.'
    ) from error


def write_records(path: str, records: Iterable[bytes]) -> None:
  """Writes an array_record file; raises RuntimeError if it cannot."""
  # JPEG cannot be compressed further, and sound hardly.
  writer = array_record_module.ArrayRecordWriter(
    path, 'group_size:1,uncompressed'
  )
  for record in records:
    writer.write(record)
  writer.close()


def count_records(path: str) -> int:
  """Counts the records of a file; 0 or -1 if it is damaged or missing."""
  try:
    reader = array_record_module.ArrayRecordReader(path)
    count = reader.num_records()
    reader.close()
  except RuntimeError:
    return -1
  return count


def remove(paths: Iterable[str]) -> None:
  """Removes those files that exist."""
  for path in paths:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
