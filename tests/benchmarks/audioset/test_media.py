"""Clips are decoded so that picture and sound stay in step."""

import io

import numpy as np
from PIL import Image
import pytest

from experiments.benchmarks.audioset import media
from tests.benchmarks.audioset import media as audioset_media
from tests.benchmarks.audioset.media import (
  click_frame,
  flash_and_click,
  flash_frame,
  grey,
)

TIMES = {
  '25 fps': np.arange(25) / 25,
  '30 fps': np.arange(30) / 30,
  '12 fps': np.arange(12) / 12,
  'variable': np.cumsum(np.random.default_rng(0).uniform(0.01, 0.06, 30)),
}
SAMPLES = audioset_media.noise(4800)
FORMS = {
  'mkv': {},
  'mp4': {
    'form': 'mp4',
    'video_codec': 'libx264',
    'audio_codec': 'aac',
    'rate': 44_100,
  },
  'webm': {
    'form': 'webm',
    'video_codec': 'libvpx',
    'audio_codec': 'libopus',
  },
}


@pytest.fixture
def decode(tmp_path):
  def decode(content):
    path = tmp_path / 'clip'
    path.write_bytes(content)
    return media.decode(str(path))

  return decode


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('times', TIMES)
def test_a_flash_and_a_click_stay_together(decode, form, times):
  at = 0.53
  shown = np.unique(np.append(TIMES[times], at).round(3))
  frames, audio = decode(flash_and_click(shown, at=at, **FORMS[form]))
  assert len(audio) == 1920 * len(frames)
  assert abs(flash_frame(frames) - at * 25) <= 1
  assert abs(click_frame(audio) - flash_frame(frames)) <= 1


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(('video', 'audio'), [(0.0, 0.3), (0.28, 0.0)])
def test_a_stream_that_begins_later_is_filled_up(decode, form, video, audio):
  times = np.arange(video, 1, 1 / 25)
  frames, sound = decode(
    flash_and_click(times, at=0.5, audio_start=audio, **FORMS[form])
  )
  assert abs(flash_frame(frames) - 12) <= 1
  assert abs(click_frame(sound) - 12) <= 1
  # 1 s, and up to one and a half frames of padding by the encoder.
  assert 25 <= len(frames) <= 27
  assert len(sound) == 1920 * len(frames)


def test_a_gap_in_the_sound_is_silent(decode):
  loud = np.full((1, 4800), 20_000, np.int16)
  content = audioset_media.media(
    samples=np.concatenate([loud, loud], axis=1), sound_gap=0.4
  )
  frames, audio = decode(content)
  assert frames == []
  active = np.flatnonzero(np.abs(audio.astype(int)) > 10_000)
  expected = np.concatenate([np.arange(4800), np.arange(24_000, 28_800)])
  np.testing.assert_array_equal(active, expected)


def test_at_most_ten_seconds(decode):
  content = audioset_media.media(
    times=np.arange(30),
    images=grey(8 * np.arange(30)),
    samples=audioset_media.noise(30 * 8000, rate=8000),
    rate=8000,
  )
  frames, audio = decode(content)
  assert len(frames) == 250
  assert len(audio) == 480_000
  assert len(set(frames)) == 10  # Each picture for a second.


def test_absent_streams(decode):
  images = grey(range(25))
  frames, audio = decode(
    audioset_media.media(times=TIMES['25 fps'], images=images)
  )
  assert (len(frames), len(audio)) == (25, 0)
  samples = audioset_media.noise(48_000)
  frames, audio = decode(audioset_media.media(samples=samples, form='wav'))
  assert frames == []
  assert audio.dtype == np.int16
  np.testing.assert_array_equal(audio, samples[0])
  # It begins after the ten seconds.
  frames, audio = decode(
    audioset_media.media(times=[20], images=images[:1], samples=samples)
  )
  assert (len(frames), len(audio)) == (0, 48_000)


def test_channels_become_one(decode):
  samples = np.zeros((2, 4800), np.int16)
  samples[0] = 10_000
  _, audio = decode(
    audioset_media.media(samples=samples, layout='stereo', form='wav')
  )
  assert abs(int(audio[2400]) - 5000) <= 1


@pytest.mark.parametrize(
  ('shape', 'expected'),
  [
    ((64, 64), (64, 64)),  # (height, width); no video is enlarged
    ((512, 300), (256, 437)),
    ((300, 512), (437, 256)),
  ],
)
def test_the_short_side_is_at_most_256(decode, shape, expected):
  frames, _ = decode(audioset_media.media(times=[0], images=grey([9], shape)))
  image = Image.open(io.BytesIO(frames[0]))
  assert image.format == 'JPEG'
  assert image.size == expected


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'cannot be opened'),
    (b'<html>404 Not Found</html>', 'cannot be opened'),
    # They would name other files, or hosts.
    (b'#EXTM3U\n#EXTINF:10,\nhttp://localhost/x.ts\n', 'cannot be opened'),
    (b'ffconcat version 1.0\nfile x.mp4\n', 'cannot be opened'),
    # Only the header.
    (audioset_media.media(samples=SAMPLES, form='wav')[:78], 'neither'),
  ],
)
def test_what_is_no_clip(decode, content, message):
  with pytest.raises(media.MediaError, match=message):
    decode(content)
