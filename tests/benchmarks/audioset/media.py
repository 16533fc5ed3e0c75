"""Makes tiny media files, as no camera does."""

from fractions import Fraction
import io
import os
import signal
import types

import av
import numpy as np
from PIL import Image

from experiments.benchmarks.audioset import parts

RATE = 48_000
MP4 = {'form': 'mp4', 'video_codec': 'libx264', 'audio_codec': 'aac'}
WEBM = {'form': 'webm', 'video_codec': 'libvpx', 'audio_codec': 'libopus'}
_H264 = {'video_codec': 'libx264', 'audio_codec': 'aac'}
# Reordered pictures, and a key frame every second.
_MPEG2 = {'video_codec': 'mpeg2video', 'audio_codec': 'mp2', 'frame_rate': 25}
_BIDIRECTIONAL = {'video_options': {'bf': '2', 'g': '25', 'qmax': '2'}}
_AVI = {'form': 'avi', 'frame_rate': 25}
_TS = {'form': 'mpegts'}
PICTURES = {  # Further formats of clips with pictures.
  'mov': {**_H264, 'form': 'mov'},
  'mov, as from cameras': {
    **{'form': 'mov', 'video_codec': 'mjpeg', 'pixels': 'yuvj420p'},
    **{'audio_codec': 'pcm_s16be'},
  },
  'avi': {**_AVI, 'audio_codec': 'libmp3lame'},
  'avi, as from cameras': {
    **{**_AVI, 'video_codec': 'mjpeg', 'pixels': 'yuvj420p'},
    **{'audio_codec': 'pcm_s16le'},
  },
  'avi with B-frames': {**_AVI, **_BIDIRECTIONAL, 'audio_codec': 'ac3'},
  'avi with H.264': {**_AVI, **_H264},
  'avi with H.264 without B-frames': {
    **{**_AVI, **_H264, 'video_options': {'bf': '0'}}
  },
  'ts': {**_TS, **_H264},
  'ts with MPEG-2': {**_TS, **_MPEG2, **_BIDIRECTIONAL},
  'ts with MPEG-4': {**_TS, **_BIDIRECTIONAL, 'audio_codec': 'ac3'},
  # As from a stream that has gone on for a day: times are in 33 bits.
  'ts whose clock overflows': {
    **{**_TS, **_H264, 'options': {'output_ts_offset': '95435'}}
  },
}


def media(
  *,
  times=None,
  images=None,
  samples=None,
  audio_start=0.0,
  sound_gap=0.0,
  rate=RATE,
  layout='mono',
  form='matroska',
  video_codec='mpeg4',
  audio_codec='pcm_s16le',
  pixels='yuv420p',
  rotation=None,
  is_mirrored=False,
  pixel_ratio=None,
  is_live=False,
  frame_rate=None,
  video_options=None,
  audio_options=None,
  options=None,
):
  """Encodes pictures and sound; returns the file's content.

  Times are in seconds, rates in Hz, angles in degrees. Players turn the
  pictures counter-clockwise by `rotation`, then mirror them left to right if
  `is_mirrored`.

  Args:
    times: when the pictures are shown; None: there is no video.
    images: as many arrays [H, W, 3] uint8.
    samples: [channels, samples] int16; None: there is no sound.
    sound_gap: time without packets, in the middle of the sound.
    form: the container's name in FFmpeg.
    pixel_ratio: width to height of a pixel, a Fraction.
    is_live: written as it comes: no length in the header, no index.
    frame_rate: pictures come at multiples of its inverse; None: of 1 ms.
    video_options: of the encoder of the pictures; audio_options: of the sound.
    options: of the container.
  """
  unit = Fraction(1, frame_rate or 1000)
  file = io.BytesIO()
  # A pipe can only be written to, in order.
  target = types.SimpleNamespace(write=file.write) if is_live else file
  packets = []
  with av.open(target, 'w', format=form, options=options or {}) as container:
    if times is not None:
      video = container.add_stream(
        video_codec, frame_rate or 25, options=video_options or {}
      )
      video.height, video.width = images[0].shape[:2]
      video.pix_fmt = pixels
      video.codec_context.time_base = unit
      video.codec_context.thread_count = 1
      if pixel_ratio is not None:
        video.codec_context.sample_aspect_ratio = pixel_ratio
      if rotation is not None:
        video.set_display_rotation(rotation, hflip=is_mirrored)
    if samples is not None:
      sound = container.add_stream(
        audio_codec, rate, layout=layout, options=audio_options or {}
      )
    if times is not None:
      for time, image in zip(times, images, strict=True):
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        frame.pts, frame.time_base = round(time / unit), unit
        packets += video.encode(frame)
      packets += video.encode()
    if samples is not None:
      resampler = av.AudioResampler(sound.format, layout, rate)
      for i, part in enumerate(
        np.split(samples, 2 if sound_gap else 1, axis=1)
      ):
        chunk = av.AudioFrame.from_ndarray(
          np.ascontiguousarray(part.T.reshape(1, -1)), 's16', layout
        )
        chunk.rate, chunk.time_base = rate, Fraction(1, rate)
        begin = audio_start + i * (sound_gap + part.shape[1] / rate)
        chunk.pts = round(rate * begin)
        for frame in resampler.resample(chunk):
          packets += sound.encode(frame)
      packets += sound.encode()
    container.mux(sorted(packets, key=lambda x: float(x.dts * x.time_base)))
  return file.getvalue()


def counting(first, last, fps=25, rate=RATE, **kwargs):
  """Encodes seconds first to last of a video; picture and sound count them."""
  size = round((last - first) * rate)
  times = first + np.arange(size) / rate
  tones = np.sin(2 * np.pi * times * (300 + 50 * np.floor(times)))
  shown = np.arange(round((last - first) * fps)) / fps
  return media(
    times=shown,
    images=grey([6 * int(first + time + 1e-9) for time in shown]),
    samples=(9000 * tones).astype(np.int16)[None],
    rate=rate,
    **kwargs,
  )


def counted(frames, audio):
  """Returns the seconds seen and those heard in a part of such a video."""
  tones = []
  for i in range(round(len(audio) / RATE)):
    middle = audio[RATE * i + RATE // 10 : RATE * (i + 1) - RATE // 10]
    peak = np.argmax(np.abs(np.fft.rfft(middle)))
    tones.append(peak * RATE / len(middle))
  return (
    np.round(levels(frames[12::25]) / 6).astype(int).tolist(),
    np.round((np.array(tones) - 300) / 50).astype(int).tolist(),
  )


def levels(frames):
  """Returns the mean grey levels of JPEG files."""
  return np.array(
    [np.asarray(Image.open(io.BytesIO(x))).mean() for x in frames]
  )


def grey(levels, shape=(64, 64)):
  return [np.full((*shape, 3), level, np.uint8) for level in levels]


def noise(count, rate=RATE, channels=1, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(-9999, 9999, (channels, count)).astype(np.int16)


def flash_and_click(
  times, *, at, seconds=1.0, audio_start=0.0, rate=RATE, **kwargs
):
  """Encodes black and silence; white from `at` on, and one loud sample then."""
  samples = np.zeros((1, round(rate * (seconds - audio_start))), np.int16)
  samples[0, round(rate * (at - audio_start))] = 30_000
  return media(
    times=times,
    images=grey([255 * (time > at - 1e-4) for time in times]),
    samples=samples,
    audio_start=audio_start,
    rate=rate,
    **kwargs,
  )


def flash_frame(frames):
  """Finds the first bright one of some JPEG files."""
  return int(np.argmax(levels(frames) > 128))


def click_frame(audio):
  """Finds the frame during which the loudest sample sounds."""
  return int(np.argmax(np.abs(audio.astype(int)))) // 1920


def decode_or_die(job):
  """Decodes a clip, but two of them kill their process."""
  if job.clip.segment.id.endswith(('3', '6')):
    os.kill(os.getpid(), signal.SIGSEGV)
  # In a worker it is not replaced by this.
  return parts.decode_clip(job)
