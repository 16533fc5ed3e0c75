"""The form in which AudioSet's clips are stored, and the source that reads it.

A split has one or more array_record files. A clip is RECORDS records in a row:
one with its id, labels and sound, then one for the frames of each second.
Training needs 32 frames of 250, and reads only the seconds that they are in: a
third of the clip's bytes, with all of the sound.
"""

import bisect
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import json
import os
from typing import Any, NotRequired, TypedDict

import numpy as np

from experiments import storage
from experiments.benchmarks import listing
from experiments.errors import DamagedRecordError, DataNotFoundError

FPS = 25  # Frames a second.
SAMPLE_RATE = 48_000  # Samples a second.
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 1,920.
MAX_SECONDS = 10  # A clip's length, at most.
RECORDS = 1 + MAX_SECONDS  # array_record's, for each clip.
BUILDER = 'audioset'
VERSION = '1.0.0'
INFO = 'info.json'  # Classes, and the clips of each file by split.
PREPARE = 'python -m scripts.prepare_audioset --clips=… --csv=… --data_dir=…'
GENERATE = 'python -m scripts.generate_audioset --output=…'
# Only what was asked for is read, and 70 kB of an index.
READER_OPTIONS = (
  'readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:0'
)


class Record(TypedDict):
  """A clip. Frame i and samples 1920 i to 1920 (i + 1) are of the same time."""

  id: str  # The video's.
  labels: np.ndarray  # [k] int64, indices of classes, ascending.
  frames: Sequence[bytes]  # JPEG files at 25 a second; empty without video.
  audio: np.ndarray  # [samples] int16, mono, 48 kHz; empty without sound.
  hidden: NotRequired[tuple[str, ...]]  # Streams to leave out all the same.


def directory(data_dir: str) -> str:
  """Returns the directory of the prepared data set."""
  return os.path.join(data_dir, BUILDER, VERSION)


def incomplete_directory(data_dir: str) -> str:
  """Returns the directory of the data set until it is whole."""
  return os.path.join(data_dir, BUILDER, f'incomplete-{VERSION}')


def encode(record: Record) -> list[bytes]:
  """Encodes a clip to its RECORDS records."""
  header = {
    'id': record['id'],
    'labels': [int(label) for label in record['labels']],
    'frames': len(record['frames']),
  }
  sound = record['audio'].astype('<i2').tobytes()
  frames = record['frames']
  seconds = [frames[FPS * i : FPS * (i + 1)] for i in range(MAX_SECONDS)]
  return [json.dumps(header).encode() + b'\n' + sound, *map(_join, seconds)]


def _join(frames: Sequence[bytes]) -> bytes:
  sizes = np.array([len(frames), *map(len, frames)], '<u4')
  return sizes.tobytes() + b''.join(frames)


def _split(data: bytes) -> list[bytes]:
  count = int(np.frombuffer(data, '<u4', 1)[0])
  sizes = np.frombuffer(data, '<u4', count, offset=4)
  ends = 4 + 4 * count + np.cumsum(sizes)
  return [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class Frames(Sequence[bytes]):
  """The frames of a stored clip, each second read when it is asked for."""

  path: str
  first: int  # The clip's first record in the file.
  size: int
  seconds: dict[int, list[bytes]] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return self.size

  def __getitem__(self, index: Any) -> Any:
    # `range` raises a sequence's IndexError for an index out of bounds.
    second, frame = divmod(range(self.size)[index], FPS)
    if second not in self.seconds:
      self.seconds[second] = _split(_read(self.path, self.first + 1 + second))
    return self.seconds[second][frame]


def _read(path: str, index: int) -> bytes:
  from array_record.python import array_record_module

  try:
    # Opened anew each time, which takes 0.1 ms: thousands of files that stayed
    # open would be too many for most systems.
    reader = array_record_module.ArrayRecordReader(path, READER_OPTIONS)
    try:
      return reader.read([index])[0]
    finally:
      reader.close()
  except (RuntimeError, ValueError, IndexError, OSError) as error:
    raise DamagedRecordError(f'{path}, record {index}: {error}') from error


@dataclasses.dataclass(frozen=True, eq=False)
class Source(Sequence[Record]):
  """The clips of a split."""

  paths: Sequence[str]
  sizes: Sequence[int]  # Clips in each.
  hidden: tuple[str, ...] = ()  # As in the records.

  @functools.cached_property
  def _ends(self) -> list[int]:
    return list(itertools.accumulate(self.sizes))

  def __len__(self) -> int:
    return sum(self.sizes)

  def __getitem__(self, index: Any) -> Any:
    index = range(len(self))[index]
    ends = self._ends
    file = bisect.bisect_right(ends, index)
    path = self.paths[file]
    first = RECORDS * (index - ends[file] + self.sizes[file])
    header, _, sound = _read(path, first).partition(b'\n')
    fields = json.loads(header)
    return Record(
      id=fields['id'],
      labels=np.array(fields['labels'], np.int64),
      frames=Frames(path, first, fields['frames']),
      audio=np.frombuffer(sound, '<i2').astype(np.int16, copy=False),
      hidden=self.hidden,
    )


def open_source(
  data_dir: str | None,
  split: str,
  *,
  num_examples: int | None,
  num_classes: int,
) -> Source:
  """Opens the clips of a split.

  Args:
    data_dir: where it was prepared, or a copy of that on gs://.
    split: 'train' or 'eval'.
    num_examples: how many clips there must be; None: any number.
    num_classes: how many classes there must be: 527 in the real one.

  Returns:
    Records by index. Can be pickled; files are opened when they are read.

  Raises:
    DataNotFoundError: if it is not prepared there, or only half; says how to.
    ValueError: if it has other numbers of clips or classes.
    OSError: if it is in a store that cannot be used.
  """
  info = read_info(data_dir)
  path = directory(data_dir or '')
  files: Mapping[str, int] = info['splits'].get(split, {})
  if not files:
    raise DataNotFoundError(
      f'{path} has no clips for {split!r}: there were none among the clips that'
      f' it was prepared from. Remove it and prepare it again: {PREPARE}'
    )
  source = Source(
    [os.path.join(path, name) for name in files], list(files.values())
  )
  listing.check_whole(path, list(files))
  if len(info['classes']) != num_classes:
    raise ValueError(
      f'{path} has {len(info["classes"])} classes;'
      f' task.num_classes is {num_classes}.'
    )
  if num_examples is not None and len(source) != num_examples:
    raise ValueError(
      f'{path} has {len(source)} clips for {split!r} instead of {num_examples}.'
    )
  return source


def read_info(data_dir: str | None) -> dict[str, Any]:
  """Reads 'classes' [[mid, name], …] and 'splits', numbers of clips by file.

  Raises DataNotFoundError if nothing is prepared.
  """
  path = storage.path(directory(data_dir or 'DIRECTORY')) / INFO
  if not (data_dir and path.exists()):
    begun = incomplete_directory(data_dir or '')
    state = (
      f'{begun} is half prepared: the same command goes on with it'
      if data_dir and storage.path(begun).is_dir()
      else f'Make a stand-in ({GENERATE}), or take the clips that you have'
    )
    raise DataNotFoundError(
      f'No AudioSet at data.dir={data_dir!r}: there is no {path}. {state}, and'
      f' prepare it: {PREPARE}'
    )
  return json.loads(path.read_text())
