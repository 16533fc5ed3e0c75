"""AudioSet's CSV files: which segments of which videos have which labels."""

from collections.abc import Iterator, Mapping
import csv
import dataclasses
import os
import re

from experiments.benchmarks import listing
from experiments.benchmarks.audioset.source import MAX_SECONDS

CLASSES = 'class_labels_indices.csv'
SEGMENTS = {  # Files by split; "balanced" and "unbalanced" share no segment.
  'train': ('balanced_train_segments.csv', 'unbalanced_train_segments.csv'),
  'eval': ('eval_segments.csv',),
}
VIDEO_ID = re.compile(r'[A-Za-z0-9_-]{11}')


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes in the order of their indices."""

  mids: tuple[str, ...]  # Knowledge Graph ids, such as /m/09x0r.
  names: tuple[str, ...]  # For people, such as Speech.


@dataclasses.dataclass(frozen=True)
class Segment:
  """A labelled part of a video: a row of a CSV."""

  split: str
  id: str  # The video's.
  start: float  # Seconds from the video's beginning.
  end: float  # Seconds too; at most MAX_SECONDS after `start`.
  labels: tuple[int, ...]  # Indices of classes, ascending.


def read_classes(folder: str) -> Classes:
  """Reads class_labels_indices.csv: index, mid, display_name.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if a line is malformed, or an index is missing.
  """
  path = os.path.join(folder, CLASSES)
  if os.path.isfile(folder):
    raise FileNotFoundError(
      f'{folder!r} is a file; give the folder that has {CLASSES} and the CSVs'
      ' of segments.'
    )
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f'There is no {CLASSES} in {folder!r}; in it there are'
      f' {listing.inside(folder)}.'
    )
  classes: dict[int, tuple[str, str]] = {}
  for where, row in _rows(path):
    if row[0] == 'index':  # The header.
      continue
    if len(row) != 3 or not row[0].isdecimal() or not row[1]:
      raise ValueError(
        f'{where}: expected "index,mid,display_name", found {row}.'
      )
    if int(row[0]) in classes:
      raise ValueError(f'{where}: index {row[0]} occurs twice.')
    classes[int(row[0])] = row[1], row[2]
  if not classes or sorted(classes) != list(range(len(classes))):
    raise ValueError(
      f'{path} has {len(classes)} classes, whose indices are not'
      f' 0 to {max(len(classes) - 1, 0)}.'
    )
  mids, names = zip(*(classes[i] for i in sorted(classes)), strict=True)
  if len(set(mids)) < len(mids):
    raise ValueError(f'{path} has the same mid for two classes.')
  return Classes(mids, names)


def read_segments(folder: str, classes: Classes) -> list[Segment]:
  """Reads the files of segments that exist, in the order of SEGMENTS.

  Raises:
    FileNotFoundError: if none of the files exists.
    ValueError: if a line is malformed, or a segment occurs twice.
  """
  indices = {mid: i for i, mid in enumerate(classes.mids)}
  segments: list[Segment] = []
  seen: dict[tuple[str, float], str] = {}
  files = [(split, name) for split, names in SEGMENTS.items() for name in names]
  for split, name in files:
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
      continue
    for where, row in _rows(path):
      segment = _segment(split, row, indices, where)
      key = segment.id, segment.start
      if key in seen:
        raise ValueError(
          f'{where}: segment {segment.id} at {segment.start} s is in'
          f' {seen[key]} already; remove one of them.'
        )
      seen[key] = where
      segments.append(segment)
  if not segments:
    raise FileNotFoundError(
      f'No segments in {folder!r}; looked for'
      f' {", ".join(name for _, name in files)}.'
    )
  return segments


def _segment(
  split: str, row: list[str], indices: Mapping[str, int], where: str
) -> Segment:
  if len(row) != 4:
    raise ValueError(
      f'{where}: expected \'YTID, start_seconds, end_seconds, "mid,mid,…"\','
      f' found {len(row)} fields: {row[:6]}.'
    )
  video, start, end, mids = row
  if not VIDEO_ID.fullmatch(video):
    raise ValueError(
      f'{where}: {video!r} is not the id of a YouTube video (11 characters).'
    )
  try:
    begin, until = float(start), float(end)
  except ValueError as error:
    raise ValueError(f'{where}: not seconds: {start!r}, {end!r}.') from error
  if not 0 <= begin < until < float('inf'):
    raise ValueError(f'{where}: a segment cannot go from {start} to {end} s.')
  # Decimal fractions are rounded in binary.
  if until - begin > MAX_SECONDS + 1e-6:
    raise ValueError(
      f'{where}: the segment from {start} to {end} s is longer than'
      f' {MAX_SECONDS} s, the most that is stored. Cut it into several.'
    )
  labels = set()
  for mid in mids.split(','):
    if mid.strip() not in indices:
      raise ValueError(f'{where}: label {mid!r} is not in {CLASSES}.')
    labels.add(indices[mid.strip()])
  return Segment(split, video, begin, until, tuple(sorted(labels)))


def _rows(path: str) -> Iterator[tuple[str, list[str]]]:
  """Yields rows with their file and line, without comments and empty lines."""
  try:
    with open(path, newline='', encoding='utf-8-sig') as file:
      reader = csv.reader(file, skipinitialspace=True, strict=True)
      for row in reader:
        if row and not row[0].startswith('#'):
          yield f'{path}, line {reader.line_num}', [x.strip() for x in row]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f'{path} is not a CSV file: {error}.') from error
