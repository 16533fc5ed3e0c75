"""Clips are found by their names, as downloaders give them."""

import csv
import itertools

import pytest

from experiments.benchmarks.audioset import clips
from experiments.benchmarks.audioset.csv_files import Segment
from experiments.benchmarks.audioset.media.formats import SUFFIXES

# Ids that begin with Y, or look like the rest of a name.
IDS = [
  '-0123456789',
  '_-abcABC_-_',
  'Yabcdefghij',
  'YY_30_40-50',
  'Y__________',
]
TIMES = [
  '_30',
  '_30.000',
  '_30000',
  '_30_40',
  '_30.000_40.000',
  '_30000_40000',
  '_30.0-40.0',
  '_30-40',
]


def make_plan(folder, names, segments):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return clips.make_plan(str(folder), segments)


def segment(video, start, end, split='train'):
  return Segment(split, video, start, end, (0,))


@pytest.mark.parametrize('times', ['', *TIMES])
@pytest.mark.parametrize('y', ['', 'Y'])
def test_clips_are_found_by_their_names(tmp_path, y, times):
  segments = [segment(video, 30.0, 40.0) for video in IDS]
  missing = segment('CCCCCCCCCCC', 0.0, 10.0, 'eval')
  suffixes = itertools.cycle([*SUFFIXES, '.WAV'])
  names = [f'{y}{video}{times}{next(suffixes)}' for video in IDS]
  names[1] = f'some/folder/{names[1]}'
  found = make_plan(tmp_path, names, [*segments, missing])
  assert {clip.segment: clip.path for clip in found.clips} == {
    segment: str(tmp_path / name)
    for segment, name in zip(segments, names, strict=True)
  }
  assert {clip.is_named_by_start for clip in found.clips} == {bool(times)}
  assert found.missing == [missing]
  assert found.skipped == found.others == []


def test_a_name_is_read_in_one_way(tmp_path):
  """A name is never that of a video, and of another one after a Y."""
  tails = map(''.join, itertools.product('_-1', repeat=4))
  names = [f'YYYYYYYYYYY{tail[:i]}.wav' for tail in tails for i in range(5)]
  names = sorted({*names, *(f'YY_1_1_1_1_{x}.wav' for x in ('', '1', '_1'))})
  read = []
  for ids in ([x[:11] for x in names], [x[1:12] for x in names]):
    segments = [segment(x, 1.0, 11.0) for x in {*ids} if '.' not in x]
    found = make_plan(tmp_path, names, segments).clips
    assert found
    read += [clip.path for clip in found]
  assert len(set(read)) == len(read)


def test_a_name_must_fit_its_row(tmp_path):
  segments = [
    segment('AAAAAAAAAAA', 10.0, 20.0),
    segment('AAAAAAAAAAA', 50.0, 60.0),
    segment('BBBBBBBBBBB', 0.0, 10.0, 'eval'),
    # In seconds and in milliseconds.
    segment('DDDDDDDDDDD', 5.0, 10.0),
    segment('DDDDDDDDDDD', 5000.0, 5010.0),
  ]
  skipped = {
    'AAAAAAAAAAA.mp4': '2 rows for AAAAAAAAAAA: its name must say which',
    'AAAAAAAAAAA_20.mp4': (
      '0 rows for AAAAAAAAAAA at 20, only for 10 to 20 s, 50 to 60 s.'
    ),
    'AAAAAAAAAAA_10_30.mp4': '0 rows for AAAAAAAAAAA at 10 to 30, only',
    'YAAAAAAAAAAA_10_20000.mp4': '0 rows for AAAAAAAAAAA at 10 to 20000',
    'YAAAAAAAAAAA_50.mp3': 'AAAAAAAAAAA_50.mp4 is the same clip',
    'BBBBBBBBBBB.wav': 'BBBBBBBBBBB.mp4 is the same clip',
    'CCCCCCCCCCC.mp4': 'No CSV has a row for CCCCCCCCCCC',
    'DDDDDDDDDDD_5000.ts': '2 rows for DDDDDDDDDDD at 5000: its name must say',
    'holiday.mp4': 'none of <video id>, <video id>_<start> or <video id>_<st',
    'BBBBBBBBBBB_.mp4': 'none of',
    'YYBBBBBBBBBBB.mp4': 'none of',
    'BBBBBBBBBBB_0_10_1.mp4': 'none of',
    'BBBBBBBBBBB.f137.mp4': 'none of',
    'BBBBBBBBBBB_\u0660.mp4': 'none of',  # A zero that is not ASCII.
  }
  good = {
    'AAAAAAAAAAA_50.mp4': segments[1],
    'BBBBBBBBBBB.mp4': segments[2],
    'DDDDDDDDDDD_5000_5010.mp4': segments[4],
    'DDDDDDDDDDD_5000_10000.avi': segments[3],
  }
  found = make_plan(tmp_path, [*skipped, *good], segments)
  assert {clip.path: clip.segment for clip in found.clips} == {
    str(tmp_path / name): segment for name, segment in good.items()
  }
  assert found.missing == segments[:1]
  reasons = dict(found.skipped)
  assert set(reasons) == {str(tmp_path / name) for name in skipped}
  for name, reason in skipped.items():
    assert reason in reasons[str(tmp_path / name)]


def test_the_preferred_format_is_taken(tmp_path):
  names = [f'AAAAAAAAAAA{suffix}' for suffix in SUFFIXES]
  (tmp_path / 'a').mkdir()
  for name in reversed(names):
    (tmp_path / 'a' / name).touch()
    (clip,) = clips.make_plan(
      str(tmp_path), [segment('AAAAAAAAAAA', 0.0, 10.0)]
    ).clips
    assert clip.path.endswith(name)


def test_all_files_are_named_but_hidden_ones(tmp_path):
  others = [
    'AAAAAAAAAAA.json',
    'AAAAAAAAAAA_0.flv',
    'AAAAAAAAAAA.mp4.part',
    'folder/LICENSE',
    'a,"b".txt',
  ]
  hidden = ['.DS_Store', '._AAAAAAAAAAA.mp4', '__MACOSX/a.mp4', '.git/b.wav']
  found = make_plan(
    tmp_path, [*others, *hidden], [segment('AAAAAAAAAAA', 0.0, 10.0)]
  )
  assert found.clips == found.skipped == []
  assert found.others == sorted(str(tmp_path / name) for name in others)
  path = tmp_path / 'report.csv'
  clips.write_report(str(path), found, {'train': 0}, [])
  with open(path, newline='') as file:
    rows = [row for row in csv.DictReader(file) if row['status'] == 'other']
  assert [row['reason'] for row in rows if not row['file']] == ['5 files']
  assert [row['file'] for row in rows if row['file']] == found.others
  reason = (
    'Only .mp4, .mkv, .webm, .mov, .avi, .ts, .wav, .flac, .opus, .m4a, .ogg,'
    ' .mp3 are read.'
  )
  assert {row['reason'] for row in rows if row['file']} == {reason}
