"""Finds people's files of clips, and the segments that they have."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import os
import re
from typing import NoReturn

from experiments.benchmarks import listing
from experiments.benchmarks.audioset.csv_files import Segment, VIDEO_ID
from experiments.benchmarks.audioset.media.formats import SUFFIXES, TAKEN

NAMES = '<video id>, <video id>_<start> or <video id>_<start>_<end>'
_NUMBER = r'[0-9]+(?:\.[0-9]+)?'
# Ids may begin with Y and have "_" and "-" in them. Because they have 11
# characters, a name can only be read in one way.
_NAME = re.compile(
  rf'Y?(?P<id>{VIDEO_ID.pattern})'
  rf'(?:_(?P<start>{_NUMBER})(?:[_-](?P<end>{_NUMBER}))?)?'
)


@dataclasses.dataclass(frozen=True)
class Clip:
  """A segment, and the file to read it from."""

  segment: Segment
  path: str

  @property
  def is_named_by_start(self) -> bool:
    """Returns whether the file's name says where in the video it begins."""
    match = _NAME.fullmatch(_stem(self.path))
    return match is not None and match['start'] is not None


@dataclasses.dataclass(frozen=True)
class Plan:
  """The clips to prepare, and what is left out."""

  clips: Sequence[Clip]  # By split, then by id.
  skipped: Sequence[tuple[str, str]]  # Media that are left out, and why.
  others: Sequence[str]  # Files that are no media.
  missing: Sequence[Segment]  # Without a file.


def make_plan(clips: str, segments: Sequence[Segment]) -> Plan:
  """Finds the segments' clips in a directory and its subfolders.

  The plan is the same for the same files and segments. Raises OSError if a
  folder cannot be read.
  """
  by_id = collections.defaultdict(list)
  for segment in segments:
    by_id[segment.id].append(segment)
  skipped: list[tuple[str, str]] = []
  paths: dict[Segment, str] = {}
  media, others = _files(clips)
  for path in media:
    found = _find(os.path.basename(path), by_id)
    if isinstance(found, str):
      skipped.append((path, found))
    elif not os.path.exists(path):
      skipped.append((path, 'It is a link to nothing.'))
    elif found in paths:
      skipped.append((path, f'{paths[found]} is the same clip.'))
    else:
      paths[found] = path
  chosen = [Clip(segment, path) for segment, path in paths.items()]
  chosen.sort(key=lambda c: (c.segment.split, c.segment.id, c.segment.start))
  missing = [segment for segment in segments if segment not in paths]
  return Plan(chosen, sorted(skipped), sorted(others), missing)


def _files(folder: str) -> tuple[list[str], list[str]]:
  """Lists files with one of SUFFIXES, preferred ones first, and all others.

  Hidden files and folders are passed over, and those that macOS adds to
  archives.
  """
  media: list[str] = []
  others: list[str] = []
  suffix = lambda path: os.path.splitext(path)[1].lower()
  for parent, folders, names in os.walk(folder, onerror=_raise):
    folders[:] = [name for name in folders if not listing.is_clutter(name)]
    for name in names:
      if not listing.is_clutter(name):
        chosen = media if suffix(name) in SUFFIXES else others
        chosen.append(os.path.join(parent, name))
  media.sort(key=lambda path: (SUFFIXES.index(suffix(path)), path))
  return media, others


def _stem(path: str) -> str:
  return os.path.splitext(os.path.basename(path))[0]


def _raise(error: OSError) -> NoReturn:
  raise error


def _find(name: str, by_id: Mapping[str, Sequence[Segment]]) -> Segment | str:
  """Returns the segment that a file has, or why there is none."""
  match = _NAME.fullmatch(_stem(name))
  if match is None:
    return f'Its name is none of {NAMES}.'
  video, start, end = match.groups()
  if video not in by_id:
    return f'No CSV has a row for {video}.'
  times = [float(time) for time in (start, end) if time is not None]
  segments = [x for x in by_id[video] if _is_from(x, times)]
  if len(segments) == 1:
    return segments[0]
  found = f'The CSVs have {len(segments)} rows for {video}'
  found += f' at {start}' * bool(start) + f' to {end}' * bool(end)
  if segments:
    return f'{found}: its name must say which (<video id>_<start>_<end>).'
  rows = [f'{x.start:g} to {x.end:g} s' for x in by_id[video]]
  return f'{found}, only for {listing.shown(rows)}.'


def _is_from(segment: Segment, times: Sequence[float]) -> bool:
  """Returns whether a name's times are a segment's start, or start and end.

  They are in seconds, or in milliseconds, as some downloaders have them.
  """
  row = [segment.start, segment.end][: len(times)]
  return row == times or row == [time / 1000 for time in times]


def write_report(
  path: str,
  plan: Plan,
  sizes: Mapping[str, int],
  skipped: Sequence[tuple[Clip, str]],
) -> None:
  """Writes, as CSV, what became of each file and row that is not prepared.

  `sizes` are the numbers of prepared clips by split, `skipped` the plan's clips
  that could not be prepared, and why.
  """

  def rows() -> Iterator[Sequence[object]]:
    yield 'status', 'split', 'id', 'start_seconds', 'file', 'reason'
    for split, size in sizes.items():
      yield 'prepared', split, '', '', '', f'{size} clips'
    files = len(skipped) + len(plan.skipped)
    yield 'skipped', '', '', '', '', f'{files} files'
    yield 'no clip', '', '', '', '', f'{len(plan.missing)} rows'
    yield 'other', '', '', '', '', f'{len(plan.others)} files'
    for clip, reason in skipped:
      row = clip.segment
      yield 'skipped', row.split, row.id, row.start, clip.path, reason
    for file, reason in plan.skipped:
      yield 'skipped', '', '', '', file, reason
    for row in plan.missing:
      yield 'no clip', row.split, row.id, row.start, '', ''
    for file in plan.others:
      yield 'other', '', '', '', file, f'Only {TAKEN}.'

  # Names of files need not be in UTF-8.
  with open(
    path, 'w', newline='', encoding='utf-8', errors='surrogateescape'
  ) as output:
    csv.writer(output).writerows(rows())
