"""Clips are decoded so that picture and sound stay in step."""

from fractions import Fraction
import io

import numpy as np
from PIL import Image
import pytest

from experiments.benchmarks.audioset.media import decoding, streams
from tests.benchmarks.audioset.media import (
  click_frame,
  flash_and_click,
  flash_frame,
  grey,
  media,
  MP4,
  noise,
  WEBM,
)

TIMES = {
  '25 fps': np.arange(25) / 25,
  '30 fps': np.arange(30) / 30,
  '12 fps': np.arange(12) / 12,
  'variable': np.cumsum(np.random.default_rng(0).uniform(0.01, 0.06, 30)),
}
SAMPLES = noise(4800)
FORMS = {'mkv': {}, 'mp4': MP4 | {'rate': 44_100}, 'webm': WEBM}


@pytest.fixture
def decode(tmp_path):
  def decode(content):
    path = tmp_path / 'clip'
    path.write_bytes(content)
    return decoding.decode(str(path))

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
  content = media(samples=np.concatenate([loud, loud], axis=1), sound_gap=0.4)
  frames, audio = decode(content)
  assert frames == []
  active = np.flatnonzero(np.abs(audio.astype(int)) > 10_000)
  expected = np.concatenate([np.arange(4800), np.arange(24_000, 28_800)])
  np.testing.assert_array_equal(active, expected)


def test_absent_streams(decode):
  images = grey(range(25))
  frames, audio = decode(media(times=TIMES['25 fps'], images=images))
  assert (len(frames), len(audio)) == (25, 0)
  samples = noise(48_000)
  frames, audio = decode(media(samples=samples, form='wav'))
  assert frames == []
  assert audio.dtype == np.int16
  np.testing.assert_array_equal(audio, samples[0])
  # It begins after the ten seconds.
  content = media(times=[20], images=images[:1], samples=samples)
  frames, audio = decode(content)
  assert (len(frames), len(audio)) == (0, 48_000)


def test_channels_become_one(decode):
  samples = np.zeros((2, 4800), np.int16)
  samples[0] = 10_000
  _, audio = decode(media(samples=samples, layout='stereo', form='wav'))
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
  frames, _ = decode(media(times=[0], images=grey([9], shape)))
  image = Image.open(io.BytesIO(frames[0]))
  assert image.format == 'JPEG'
  assert image.size == expected


FOUR = np.array(  # No two of the eight ways to turn it look alike.
  [[(230, 40, 40), (40, 230, 40)], [(40, 40, 230), (230, 230, 230)]], np.uint8
)
SEEN = FOUR.repeat(16, axis=0).repeat(32, axis=1)  # As a sensor sees them.


def centres(frame):
  """The colours in the middle of the four quarters of a JPEG file."""
  pixels = np.asarray(Image.open(io.BytesIO(frame))).astype(int)
  height, width, _ = pixels.shape
  return pixels[height // 4 :: height // 2, width // 4 :: width // 2]


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('is_mirrored', [False, True])
@pytest.mark.parametrize('rotation', [0, 90, 180, 270])
def test_clips_are_upright(decode, form, rotation, is_mirrored):
  """Stores a sensor's picture and how it is to be shown, as phones do."""
  kwargs = {x: y for x, y in FORMS[form].items() if x != 'rate'}
  frames, _ = decode(
    media(
      times=[0, 0.04],
      images=2 * [SEEN],
      rotation=rotation,
      is_mirrored=is_mirrored,
      **kwargs,
    )
  )
  expected = np.rot90(FOUR, rotation // 90)
  if is_mirrored:
    expected = expected[:, ::-1]
  size = (64, 32) if rotation % 180 == 0 else (32, 64)
  assert Image.open(io.BytesIO(frames[0])).size == size
  np.testing.assert_allclose(centres(frames[0]), expected, atol=30)


def test_a_phones_mp4_is_upright(decode):
  """The bytes that say so are those of a phone's file, whoever wrote it."""
  content = media(times=[0, 0.04], images=2 * [SEEN], form='mp4')
  matrix = lambda *rows: np.array(rows, '>i4').tobytes()
  one, upright = 1 << 16, matrix((1 << 16, 0, 0), (0, 1 << 16, 0))
  header = content.index(b'tkhd')
  place = content.index(upright, header)
  # 90 degrees clockwise, as a phone's that is held upright.
  turned = matrix((0, one, 0), (-one, 0, 0))
  content = content[:place] + turned + content[place + len(turned) :]
  frames, _ = decode(content)
  np.testing.assert_allclose(centres(frames[0]), np.rot90(FOUR, -1), atol=30)


@pytest.mark.parametrize(
  ('ratio', 'rotation', 'expected'),
  [
    (Fraction(2), None, (128, 32)),
    (Fraction(2), 90, (32, 128)),
    (Fraction(1, 2), None, (32, 32)),
    (Fraction(100), None, (64, 32)),  # A damaged header.
  ],
)
def test_pixels_become_square(decode, ratio, rotation, expected):
  frames, _ = decode(
    media(times=[0], images=[SEEN], pixel_ratio=ratio, rotation=rotation)
  )
  assert Image.open(io.BytesIO(frames[0])).size == expected


@pytest.mark.parametrize(
  ('form', 'codec', 'found'),
  [
    ('adts', 'aac', 'aac'),
    ('aiff', 'pcm_s16be', 'aiff'),
    ('flv', 'aac', 'flv'),
    ('asf', 'pcm_s16le', 'wma or wmv'),
    ('mpeg', 'mp2', 'mpg'),
  ],
)
def test_another_format_is_named_with_those_that_are_taken(
  decode, form, codec, found
):
  content = media(samples=SAMPLES, form=form, audio_codec=codec)
  expected = rf'opened: it is {found}; \.mp4, \.mkv, .* \.mp3 are read\.$'
  with pytest.raises(streams.MediaError, match=expected):
    decode(content)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'cannot be opened: it is empty'),
    (b'<html>404 Not Found</html>', "cannot be opened: it begins with b'<htm"),
    (b'\0\0\0\x18ftypisom', 'cannot be opened: Invalid data found'),
    # They would name other files, or hosts.
    (b'#EXTM3U\n#EXTINF:10,\nhttp://localhost/x.ts\n', 'cannot be opened'),
    (b'ffconcat version 1.0\nfile x.mp4\n', 'cannot be opened'),
    # Only the header.
    (media(samples=SAMPLES, form='wav')[:78], 'neither'),
  ],
)
def test_what_is_no_clip(decode, content, message):
  with pytest.raises(streams.MediaError, match=message):
    decode(content)
