"""A clip is the seconds of its CSV row, or it is refused."""

import logging
import os

import numpy as np
import pytest

from experiments.benchmarks.audioset import files
from experiments.benchmarks.audioset import source as audioset
from experiments.benchmarks.audioset.media import decoding, streams
from tests import quick
from tests.benchmarks.audioset.media import (
  counted,
  counting,
  flash_and_click,
  grey,
  levels,
  media,
  MP4,
  PICTURES,
  WEBM,
)
from tests.benchmarks.audioset.test_preparation import (
  CLASSES,
  OPEN,
  prepare,
  report,
)

FORMS = {
  'mp4': MP4,
  'mp4, 44.1 kHz': MP4 | {'rate': 44_100},
  'mp4, 12 fps': MP4 | {'fps': 12},
  'webm': WEBM,
  'mkv': {'audio_codec': 'aac'},
  'mkv without an index': {'audio_codec': 'aac', 'is_live': True},
  **PICTURES,
}


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'clip'


@pytest.mark.parametrize('form', quick.only(['mp4', 'ts'], FORMS))
def test_a_part_is_cut_from_the_decoded_whole(path, form):
  path.write_bytes(counting(0, 24, **FORMS[form]))
  frames, audio = decoding.decode(str(path), 0.0, 24.0)
  assert len(frames) in (600, 601)
  assert counted(frames[:600], audio[: 24 * 48_000]) == 2 * (list(range(24)),)
  for start in (1.0, 13.36, 20.0):
    part_frames, part_audio = decoding.decode(str(path), start, 3.0)
    first = round(25 * start)
    assert part_frames == frames[first : first + 75]
    np.testing.assert_array_equal(
      part_audio, audio[1920 * first : 1920 * (first + 75)]
    )


def test_a_part_between_two_key_frames_is_not_made_up(path):
  """Without an index, seeking leads to pictures whose references are lost."""
  texture = np.random.default_rng(0).integers(256, size=(16, 16, 3))
  content = media(
    times=np.arange(375) / 25,
    images=375 * [texture.astype(np.uint8)],
    form='mpegts',
    video_options={'g': '300', 'sc_threshold': '1000000000'},
  )
  path.write_bytes(content)
  frames, _ = decoding.decode(str(path), 0.0, 15.0)
  for start in (8.0, 14.0):  # Key frames are at 0 and 12 s.
    part, _ = decoding.decode(str(path), start, 1.0)
    first = round(25 * start)
    assert part == frames[first : first + 25]


def test_the_picture_on_display_stays_and_a_sound_that_has_ended_is_none(path):
  samples = np.full((1, 48_000), 9000, np.int16)
  path.write_bytes(media(times=[0, 9], images=grey([60, 120]), samples=samples))
  frames, audio = decoding.decode(str(path), 5.0, 3.0)
  assert (len(frames), len(set(frames)), audio.size) == (75, 1, 0)
  assert abs(levels(frames)[0] - 60) <= 2
  path.write_bytes(media(samples=samples))
  with pytest.raises(streams.MediaError, match='nor sound from 5 s on'):
    decoding.decode(str(path), 5.0, 3.0)


@pytest.mark.parametrize(
  ('video', 'audio'), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.3), (3.0, 3.2)]
)
def test_a_part_is_counted_from_where_the_first_stream_begins(
  path, video, audio
):
  zero = min(video, audio)
  times = np.arange(video, zero + 8, 1 / 25)
  content = flash_and_click(
    times, at=zero + 6, seconds=zero + 8, audio_start=audio
  )
  path.write_bytes(content)
  assert abs(streams.length(str(path)) - 8) <= 0.04
  frames, sound = decoding.decode(str(path), 5.0, 2.0)
  assert np.flatnonzero(levels(frames) > 128)[0] == 25
  assert np.flatnonzero(sound)[0] == 48_000


@pytest.mark.parametrize('form', FORMS)
def test_length_is_that_of_the_packets(path, form):
  content = counting(0, 12, **FORMS[form])
  path.write_bytes(content)
  # A frame of sound, and one that the encoder adds before it, if the container
  # does not mark that; a millisecond, which is what mkv counts in.
  frames = 2 if form in PICTURES else 1
  assert abs(streams.length(str(path)) - 12) <= frames * 1024 / 44_100 + 0.001
  assert 5 <= streams.length(str(path), 5.0) <= 5.1
  if 'mkv' in form:
    # Half a download, whose header tells of the whole.
    path.write_bytes(content[: len(content) // 2])
    assert 5 <= streams.length(str(path)) <= 7


def test_a_damaged_timestamp_is_no_length(path):
  path.write_bytes(media(times=[0, 0.04, 50], images=grey([9, 9, 9])))
  with pytest.raises(streams.MediaError, match=r'jump from 0.0. to 50.00 s'):
    streams.length(str(path))
  ((_, record),) = files.read([os.fspath(path)], 1)
  assert len(record['frames']) == 250  # The first ten seconds are whole.


# Name, row, seconds of the video that are in the file, seconds to be stored.
CLIPS = [
  ('the_clip___.mp4', (30, 40), (30, 40), (30, 40)),
  ('ended_soon_.mp4', (30, 40), (30, 34), (30, 34)),
  ('a_bit_long_.mp4', (30, 40), (30, 40.4), (30, 40)),
  ('whole______.mp4', (30, 40), (0, 40), (30, 40)),
  ('longer_____.mp4', (30, 40), (0, 42), (30, 40)),
  ('a_bit_short.mp4', (30, 40), (0, 39.7), (30, 40)),
  ('short_row__.mp4', (5, 8), (0, 14), (5, 8)),
  ('two_seconds.mp4', (2, 12), (0, 12), (2, 12)),
  ('beginning__.mp4', (0, 10), (0, 12), (0, 10)),
  ('named_start_30.mp4', (30, 40), (30, 40), (30, 40)),
  ('named_milli_30000.mp4', (30, 40), (30, 40), (30, 40)),
  ('named_zero__0.mp4', (0, 10), (0, 12), (0, 10)),
]
REFUSED = [
  (
    'early______.mp4',
    (30, 40),
    (27, 40),
    'It lasts 13.00 s, longer than its clip of 10 s; the whole video lasts at'
    ' least 40 s. Where in it the clip is cannot be known: cut it.',
  ),
  ('cut_off____.mp4', (2, 12), (0, 11), 'the whole video lasts at least 12 s.'),
  ('late_end___.mp4', (5, 8), (5, 9), 'longer than its clip of 3 s'),
  (
    'named_whole_30.mp4',
    (30, 40),
    (0, 41),
    'It lasts 41.00 s, but its name says that it begins with its clip of 10 s:'
    ' cut it, or name it named_whole if it is the whole video.',
  ),
]


@pytest.mark.slow
def test_a_clip_is_the_seconds_of_its_row_or_is_refused(tmp_path):
  (tmp_path / 'clips').mkdir()
  (tmp_path / 'class_labels_indices.csv').write_text(CLASSES)
  rows = []
  for name, row, seconds, _ in CLIPS + REFUSED:
    content = counting(*seconds, fps=5, rate=24_000, **MP4)
    (tmp_path / 'clips' / name).write_bytes(content)
    rows.append(f'{name[:11]}, {row[0]}.000, {row[1]}.000, "/m/0"\n')
  (tmp_path / 'eval_segments.csv').write_text(''.join(rows))
  prepare(tmp_path)
  stored = {
    record['id']: counted(list(record['frames']), record['audio'])
    for record in audioset.open_source(str(tmp_path / 'data'), 'eval', **OPEN)
  }
  assert stored == {
    name[:11]: 2 * (list(range(*seconds)),) for name, _, _, seconds in CLIPS
  }
  reasons = {row['id']: row['reason'] for row in report(tmp_path) if row['id']}
  assert reasons.keys() == {name[:11] for name, *_ in REFUSED}
  for name, _, _, reason in REFUSED:
    assert reason in reasons[name[:11]]


def test_people_are_told_when_only_the_first_ten_seconds_count(
  tmp_path, caplog
):
  whole, clip = tmp_path / 'whole.mp4', tmp_path / 'clip.mp4'
  whole.write_bytes(counting(0, 12, **MP4))
  clip.write_bytes(counting(0, 10, **MP4))
  with caplog.at_level(logging.WARNING):
    records = dict(files.read([os.fspath(whole), os.fspath(clip)], 1))
  for record in records.values():
    counts = counted(record['frames'], record['audio'])
    assert counts == 2 * (list(range(10)),)
  assert [x.getMessage() for x in caplog.records] == [
    f"'{whole}' is longer than 10 s; only its beginning counts."
  ]
