"""Files in further formats are read as the same clip is from a wav or mkv."""

import base64
from fractions import Fraction
import glob
import hashlib
import io
import os
import struct
import wave

import av
from av.stream import Disposition
import numpy as np
from PIL import Image
import pytest

from experiments.benchmarks.audioset.media import decoding, formats, streams
from tests.benchmarks.audioset.media import (
  click_frame,
  flash_and_click,
  flash_frame,
  grey,
  levels,
  media,
  MP4,
  noise,
  PICTURES,
)

RECORDINGS = '/usr/share/sonic-pi/samples'  # Debian's sonic-pi-samples.
LOSSLESS = {
  'flac': {'form': 'flac', 'audio_codec': 'flac'},
  'flac in ogg': {'form': 'ogg', 'audio_codec': 'flac'},
  'alac in m4a': {'form': 'ipod', 'audio_codec': 'alac'},
  'pcm in mov': {'form': 'mov', 'audio_codec': 'pcm_s16be'},
  'pcm in avi': {'form': 'avi', 'audio_codec': 'pcm_s16le'},
}
OPUS, MP3, AAC = ({'audio_codec': x} for x in ('libopus', 'libmp3lame', 'aac'))
# With the samples that the encoder adds before the sound, unless the container
# says how many to leave out; a player has them too.
LOSSY = {
  'opus': ({'form': 'opus', **OPUS}, 0),
  'vorbis in ogg': (
    {
      **{'form': 'ogg', 'audio_codec': 'vorbis', 'layout': 'stereo'},
      **{'audio_options': {'strict': 'experimental'}},
    },
    0,
  ),
  'mp3': ({'form': 'mp3', **MP3}, 0),
  'mp3 without a header': (
    {'form': 'mp3', **MP3, 'options': {'write_xing': '0'}},
    1105,
  ),
  'aac in m4a': ({'form': 'ipod', **AAC}, 0),
  'aac in mov': ({'form': 'mov', **AAC}, 0),
  'mp3 in avi': ({'form': 'avi', **MP3}, 1105),
  'ac3 in avi': ({'form': 'avi', 'audio_codec': 'ac3'}, 256),
  'aac in ts': ({'form': 'mpegts', **AAC}, 1024),
  'mp2 in ts': ({'form': 'mpegts', 'audio_codec': 'mp2'}, 481),
  'opus in ts': ({'form': 'mpegts', **OPUS}, 312),
}


@pytest.fixture
def decode(tmp_path):
  def decode(content):
    path = tmp_path / 'clip'
    path.write_bytes(content)
    frames, audio = decoding.decode(str(path))
    seconds = max(len(frames) / 25, len(audio) / 48_000)
    # Encoders of sound fill its first and last frame; ours have 1,152 samples.
    assert abs(streams.length(str(path)) - seconds) <= 0.06
    return frames, audio

  return decode


def sweep(rate):
  """Samples [1, 3 s] of a tone that rises, and swells three times a second."""
  times = np.arange(3 * rate) / rate
  tone = np.sin(2 * np.pi * (300 + 200 * times) * times)
  return (9000 * (1 + np.sin(6 * np.pi * times)) * tone).astype(np.int16)[None]


def stereo(mono):
  return np.concatenate([mono, mono])


@pytest.mark.parametrize('rate', [48_000, 44_100, 22_050])
@pytest.mark.parametrize('form', LOSSLESS)
def test_lossless_sound_is_that_of_a_wav(decode, form, rate):
  samples = stereo(noise(rate, rate))
  kwargs = {'rate': rate, 'layout': 'stereo'}
  _, expected = decode(media(samples=samples, form='wav', **kwargs))
  frames, audio = decode(media(samples=samples, **kwargs, **LOSSLESS[form]))
  assert frames == []
  assert abs(len(audio) - 48_000) <= 48_000 // rate
  np.testing.assert_array_equal(audio, expected)


@pytest.mark.parametrize('rate', [48_000, 44_100])
@pytest.mark.parametrize('form', LOSSY)
def test_lossy_sound_is_that_of_a_wav_where_a_player_has_it(decode, form, rate):
  kwargs, most = LOSSY[form]
  if kwargs['audio_codec'] == 'libopus':
    rate = 48_000  # Its only one.
  samples = sweep(rate)
  _, expected = decode(media(samples=samples, rate=rate, form='wav'))
  if kwargs.get('layout') == 'stereo':
    samples = stereo(samples)
  frames, audio = decode(media(samples=samples, rate=rate, **kwargs))
  assert frames == []
  expected, audio = expected.astype(float), audio.astype(float)
  size = len(expected) + len(audio)
  spectrum = np.fft.rfft(audio, size) * np.fft.rfft(expected, size).conj()
  late = np.argmax(np.fft.irfft(spectrum, size))
  assert abs(late - most * 48_000 / rate) <= 1
  assert len(audio) - late - len(expected) + 1920 >= 0
  audio = audio[late:][: len(expected)]
  # What mp3 at its default of 128 kbit/s leaves out, which is the most.
  error = np.std(audio - expected[: len(audio)]) / np.std(expected)
  assert error < 0.08


@pytest.mark.parametrize('form', PICTURES)
def test_a_flash_and_a_click_stay_together(decode, form):
  times = np.arange(25) / 25
  frames, audio = decode(flash_and_click(times, at=0.52, **PICTURES[form]))
  assert len(audio) == 1920 * len(frames)
  assert 25 <= len(frames) <= 27
  assert abs(flash_frame(frames) - 13) <= 1
  assert abs(click_frame(audio) - flash_frame(frames)) <= 1


@pytest.mark.parametrize('form', PICTURES)
def test_pictures_are_in_the_order_in_which_they_are_shown(decode, form):
  times, shown = np.arange(25) / 25, 10 * np.arange(25)
  kwargs = PICTURES[form]
  frames, _ = decode(
    media(times=times, images=grey(shown), samples=noise(48_000), **kwargs)
  )
  seen = np.round(levels(frames) / 10).astype(int)
  # The sound may begin up to a frame before.
  late = int(np.argmax(seen)) - 24
  assert 0 <= late <= 1
  expected = [0] * late + list(range(25)) + [24]
  assert seen.tolist() == expected[: len(seen)]


def test_a_clip_that_was_cut_without_encoding_keeps_its_first_pictures(decode):
  """Its first key frame is not shown, as after `ffmpeg -ss … -c copy`."""
  times, shown = np.arange(-10, 25) / 25, 6 * np.arange(35)
  for kwargs in (MP4, PICTURES['mov']):
    kwargs = kwargs | {'video_options': {'g': '25'}}
    content = media(times=times, images=grey(shown), **kwargs)
    with av.open(io.BytesIO(content)) as container:
      assert not next(container.decode(video=0)).key_frame
    frames, _ = decode(content)
    seen = np.round(levels(frames) / 6).astype(int)
    assert seen.tolist() == list(range(10, 35))


def test_a_stream_that_is_cut_begins_with_its_first_whole_picture(decode):
  content = flash_and_click(
    np.arange(125) / 25,
    at=3.0,
    seconds=5.0,
    **PICTURES['ts with MPEG-4'],
  )
  for first in (40, 41, 101):
    frames, audio = decode(content[188 * first + 7 :])
    assert 60 <= len(frames) <= 122
    assert abs(click_frame(audio) - flash_frame(frames)) <= 1


def with_cover(form, codec):
  """Encodes a second of noise beside a picture of its album."""
  kind = 'mjpeg' if form == 'mp4' else 'png'
  file = io.BytesIO()
  Image.new('RGB', (40, 30), 'red').save(
    file, {'mjpeg': 'JPEG'}.get(kind, kind)
  )
  picture = file.getvalue()
  file = io.BytesIO()
  with av.open(file, 'w', format=form) as container:
    sound = container.add_stream(codec, 48_000, layout='mono')
    if form == 'ogg':
      size = len(picture)
      header = struct.pack(
        '>II9s6I', 3, 9, b'image/png', 0, 40, 30, 24, 0, size
      )
      sound.metadata['METADATA_BLOCK_PICTURE'] = base64.b64encode(
        header + picture
      ).decode()
    else:
      cover = container.add_mux_stream(kind, width=40, height=30)
      cover.disposition = Disposition.attached_pic
      packet = av.Packet(picture)
      packet.stream, packet.time_base = cover, Fraction(1, 1000)
      packet.pts = packet.dts = 0
    frame = av.AudioFrame.from_ndarray(noise(48_000), 's16', 'mono')
    frame.rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    resampler = av.AudioResampler(sound.format, 'mono', 48_000)
    packets = [y for x in resampler.resample(frame) for y in sound.encode(x)]
    packets += sound.encode()
    if form != 'ogg':
      container.mux(packet)
    container.mux(packets)
  return file.getvalue()


@pytest.mark.parametrize(
  ('form', 'codec'),
  [('flac', 'flac'), ('mp3', 'libmp3lame'), ('mp4', 'aac'), ('ogg', 'libopus')],
)
def test_a_cover_is_no_video(decode, form, codec):
  content = with_cover(form, codec)
  with av.open(io.BytesIO(content)) as container:
    assert container.streams.video
  frames, audio = decode(content)
  assert frames == []
  assert abs(len(audio) - 48_000) <= 1024


@pytest.mark.parametrize('suffix', formats.SUFFIXES)
def test_a_suffix_does_not_decide_the_format(tmp_path, suffix):
  path = tmp_path / f'clip{suffix}'
  samples = noise(5760)
  for form in ({'form': 'wav'}, LOSSLESS['flac'], LOSSLESS['flac in ogg']):
    path.write_bytes(media(samples=samples, **form))
    _, audio = decoding.decode(str(path))
    np.testing.assert_array_equal(audio, samples[0])
  for content, reason in [
    (b'', 'it is empty'),
    (b'<html>404', "it begins with b'<html>404'"),
    (b'#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n', 'it begins with'),
    (bytes(10_000), 'it begins with'),
  ]:
    path.write_bytes(content)
    with pytest.raises(streams.MediaError, match=reason):
      decoding.decode(str(path))


@pytest.mark.skipif(
  not os.path.isdir(RECORDINGS), reason="Debian's sonic-pi-samples is missing."
)
@pytest.mark.slow
def test_real_recordings(tmp_path):
  """Sound is what the files' own digests say, and what a wav has of it."""
  wav, count = tmp_path / 'clip.wav', 0
  for path in sorted(glob.glob(os.path.join(RECORDINGS, '*.flac'))):
    with open(path, 'rb') as file:
      digest = file.read(42)[26:]  # STREAMINFO's, of the samples.
    with av.open(path) as container:
      frames = list(container.decode(audio=0))
    samples = np.concatenate([x.to_ndarray()[0] for x in frames])
    size = {np.dtype(np.int16): 2, np.dtype(np.int32): 3}[samples.dtype]
    # 24 bits are the upper ones of 32.
    content = samples.view(np.uint8).reshape(-1, samples.itemsize)[:, -size:]
    assert hashlib.md5(content.tobytes()).digest() == digest
    with wave.open(str(wav), 'wb') as file:
      file.setnchannels(len(frames[0].layout.channels))
      file.setsampwidth(size)
      file.setframerate(frames[0].sample_rate)
      file.writeframes(content.tobytes())
    _, expected = decoding.decode(str(wav))
    shown, audio = decoding.decode(path)
    assert shown == []
    np.testing.assert_array_equal(audio, expected)
    seconds = (
      samples.size / len(frames[0].layout.channels) / frames[0].sample_rate
    )
    assert abs(streams.length(path) - seconds) < 1e-6
    count += 1
  assert count > 100
