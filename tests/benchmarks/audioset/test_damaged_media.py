"""300 media files, damaged in many ways: nobody dies, every skip is named."""

import numpy as np

from tests.benchmarks.audioset.media import (
  grey,
  media,
  MP4,
  noise,
  PICTURES,
  WEBM,
)
from tests.benchmarks.audioset.test_preparation import (
  prepare,
  records,
  report,
  write_sources,
)

COUNT = 300
SECOND = np.arange(25) / 25
SAMPLES = noise(48_000)
STREAMS = [
  MP4,
  MP4 | {'video_codec': 'mpeg4'},
  {'form': 'matroska', 'video_codec': 'libx264', 'audio_codec': 'pcm_s16le'},
  WEBM,
  PICTURES['avi with B-frames'],
  PICTURES['avi with H.264'],
  PICTURES['ts'],
  PICTURES['ts with MPEG-2'],
]
SOUNDS = [
  {'form': 'wav'},
  {'form': 'flac', 'audio_codec': 'flac'},
  {'form': 'opus', 'audio_codec': 'libopus'},
  {'form': 'mp3', 'audio_codec': 'libmp3lame'},
  {'form': 'ipod', 'audio_codec': 'alac'},
]


def odd():
  """Clips that are strange, but whole: frames and samples that they give."""
  images = grey(10 * np.arange(25))
  irregular = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.07, 25))
  dots = grey(range(25), (1, 1))
  vast = grey([99], (4320, 7680))
  wide = noise(48_000, channels=8)
  return {
    'one_second0.mp4': (
      media(times=SECOND, images=images, samples=SAMPLES, form='mp4'),
      (25, 48_000),
    ),
    'thirty_secs.mkv': (
      media(
        times=range(30), images=grey(range(30)), samples=noise(30 * 48_000)
      ),
      (250, 480_000),
    ),
    'one_pixel_0.mkv': (
      media(times=SECOND, images=dots, video_codec='ffv1', pixels='yuv444p'),
      (25, 0),
    ),
    '8k_video_00.mp4': (media(times=[0], images=vast, form='mp4'), (1, 0)),
    '8_channels0.wav': (
      media(samples=wide, layout='7.1', form='wav'),
      (0, 48_000),
    ),
    '8_channels1.mkv': (media(samples=wide, layout='8 channels'), (0, 48_000)),
    'variable_00.mkv': (
      media(times=irregular - irregular[0], images=images),
      None,
    ),
    'mp4_not_wav.wav': (
      media(times=SECOND, images=images, form='mp4'),
      (25, 0),
    ),
    'wav_not_mp4.mp4': (media(samples=SAMPLES, form='wav'), (0, 48_000)),
  }


NO_CLIPS = {
  'zero_length.mp4': b'',
  'a_web_page0.mp4': b'<!doctype html><title>404</title>',
  'a_playlist0.mp4': b'#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n',
  'no_streams0.mkv': media(samples=SAMPLES)[:60],
  'only_zeros0.webm': bytes(10_000),
}


def damaged(count):
  """Truncated or with flipped bits, in their headers or anywhere."""
  rng = np.random.default_rng(0)
  images = list(rng.integers(0, 256, (6, 32, 32, 3), np.uint8))
  whole = [
    media(times=SECOND[:6], images=images, samples=SAMPLES[:, :12_000], **x)
    for x in STREAMS
  ] + [media(samples=SAMPLES[:, :12_000], **x) for x in SOUNDS]
  for i in range(count):
    content = bytearray(whole[i % len(whole)])
    if i % 3 == 0:
      content = content[: rng.integers(len(content))]
    end = len(content) if i % 3 == 1 else min(len(content), 1500)
    for _ in range(rng.integers(1, 30) if i % 3 and end else 0):
      content[rng.integers(end)] ^= 1 << int(rng.integers(8))
    yield f'damaged{i:04}.mp4', bytes(content)


def test_damaged_files(tmp_path):
  strange = odd()
  clips = {name: content for name, (content, _) in strange.items()} | NO_CLIPS
  clips |= dict(damaged(COUNT - len(clips)))
  assert len(clips) == COUNT
  write_sources(tmp_path, clips)
  prepare(tmp_path)
  found = records(tmp_path)
  skipped = {row['id']: row['reason'] for row in report(tmp_path) if row['id']}
  assert set(found) | set(skipped) == {name[:11] for name in clips}
  assert not set(found) & set(skipped)
  assert all(skipped.values())
  assert {name[:11] for name in NO_CLIPS} <= set(skipped)
  assert [x for x in skipped.values() if 'Error' in x] == []
  for name, (_, expected) in strange.items():
    _, _, frames, audio = found[name[:11]]
    if expected is not None:
      assert (len(frames), len(audio) // 2) == expected, name
  # Some of the others can be read in part; nothing is ever longer.
  assert 50 < len(skipped) < 250
  for _, _, frames, audio in found.values():
    assert len(frames) <= 250
    assert len(audio) <= 2 * 480_000
    assert not audio or not frames or len(audio) == 2 * 1920 * len(frames)
