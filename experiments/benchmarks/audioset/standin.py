"""Events: a stand-in for AudioSet that needs no download.

Short clips, with CSVs in AudioSet's format. Each has one or two sounds and one
or two kinds of things to see, drawn independently. Every sound and every kind
is a class, and so is each sound together with its own kind: sound or picture
alone only tells that such a pair is possible. All goes on for the whole clip,
so that each window of it shows its labels.
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
from fractions import Fraction
import multiprocessing
import os
import shutil

import av
import numpy as np
from PIL import Image, ImageDraw
import tqdm

from experiments.benchmarks.audioset import csv_files
from experiments.benchmarks.audioset.source import FPS, SAMPLE_RATE


def split_sizes(num_train: int = 400, num_eval: int = 120) -> dict[str, int]:
  """Returns numbers of clips by file of segments."""
  balanced = round(0.6 * num_train)
  return {
    'balanced_train_segments.csv': balanced,
    'unbalanced_train_segments.csv': num_train - balanced,
    'eval_segments.csv': num_eval,
  }


SIZES = split_sizes()
SECONDS = 3
SIZE = 128  # Pixels, of both sides.
NUM_SHAPES = 8  # Of a kind: so many that crops have some of them.
ALPHABET = np.array(list('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP0123-_'))


def _tone(
  times: np.ndarray, low: float, rng: np.random.Generator
) -> np.ndarray:
  frequency = rng.uniform(low, 1.4 * low)
  return np.sin(2 * np.pi * (frequency * times + rng.random()))


def _clicks(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  since = (times + rng.random()) % (1 / rng.uniform(8, 12))
  return 2 * np.exp(-since / 2e-3) * np.sin(2 * np.pi * 1500 * since)


# They give samples at times [N], about as loud as a sine of amplitude 1.
SOUNDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
  'Low tone': lambda times, rng: _tone(times, 250, rng),
  'High tone': lambda times, rng: _tone(times, 2000, rng),
  'Noise': lambda times, rng: 0.7 * rng.normal(size=times.shape),
  'Clicks': _clicks,
}


def _shapes(
  shape: str,
  colour: tuple[int, int, int],
  images: Sequence[Image.Image],
  rng: np.random.Generator,
) -> None:
  """Draws ellipses or rectangles that drift over the pictures."""
  radius = rng.uniform(7, 11)
  places = rng.uniform(0, SIZE, (NUM_SHAPES, 2))
  speeds = rng.uniform(-1.5, 1.5, (NUM_SHAPES, 2))  # Pixels a frame.
  for i, image in enumerate(images):
    draw = getattr(ImageDraw.Draw(image), shape)
    for x, y in (places + i * speeds + radius) % (SIZE + 2 * radius) - radius:
      draw((x - radius, y - radius, x + radius, y + radius), colour)


def _bars(images: Sequence[Image.Image], rng: np.random.Generator) -> None:
  """Draws upright bars that move sideways."""
  width, speed = rng.uniform(4, 7), rng.uniform(0.5, 1.5)
  for i, image in enumerate(images):
    draw = ImageDraw.Draw(image)
    for x in np.arange(i * speed % (4 * width), SIZE, 4 * width):
      draw.rectangle((x, 0, x + width, SIZE), (60, 80, 230))


def _flicker(images: Sequence[Image.Image], rng: np.random.Generator) -> None:
  """Makes the pictures bright now and then."""
  period, phase = int(rng.integers(4, 8)), int(rng.integers(8))
  for i in range(len(images)):
    if (i + phase) % period < 2:
      white = Image.new('RGB', images[i].size, 'white')
      images[i].paste(Image.blend(images[i], white, 0.7))


KINDS: dict[
  str, Callable[[Sequence[Image.Image], np.random.Generator], None]
] = {
  'Bars': _bars,
  'Discs': lambda *args: _shapes('ellipse', (220, 50, 40), *args),
  'Squares': lambda *args: _shapes('rectangle', (40, 180, 60), *args),
  'Flicker': _flicker,
}
CLASSES = (
  *SOUNDS,
  *KINDS,
  *(f'{s} with {k.lower()}' for s, k in zip(SOUNDS, KINDS, strict=True)),
)


def generate(
  output: str,
  num_processes: int,
  seed: int = 0,
  sizes: Mapping[str, int] = SIZES,
) -> None:
  """Writes clips/ and csv/; the same seed gives the same content.

  `sizes` has the numbers of clips by file of segments. Raises FileExistsError
  if `output` exists.
  """
  if os.path.exists(output):
    raise FileExistsError(f'{output} exists: remove it, or write another.')
  temporary = f'{os.path.normpath(output)}.tmp'
  shutil.rmtree(temporary, ignore_errors=True)
  clips, folder = (os.path.join(temporary, x) for x in ('clips', 'csv'))
  os.makedirs(clips)
  os.makedirs(folder)
  with open(os.path.join(folder, csv_files.CLASSES), 'w') as file:
    file.write('index,mid,display_name\n')
    for i, name in enumerate(CLASSES):
      file.write(f'{i},{_mid(i)},"{name}"\n')
  rng = np.random.default_rng(seed)
  jobs = []
  for name, size in sizes.items():
    rows = []
    for _ in range(size):
      video = ''.join(rng.choice(ALPHABET, 11))
      start = 10 * int(rng.integers(30))
      sounds, kinds = (
        sorted(rng.choice(4, rng.integers(1, 3), replace=False).tolist())
        for _ in range(2)
      )
      both = [i for i in sounds if i in kinds]
      labels = [*sounds, *(4 + i for i in kinds), *(8 + i for i in both)]
      mids = ','.join(_mid(label) for label in labels)
      rows.append(f'{video}, {start}.000, {start + SECONDS}.000, "{mids}"\n')
      path = os.path.join(clips, f'{video}_{start}.mp4')
      jobs.append((path, sounds, kinds, int(rng.integers(2**32))))
    with open(os.path.join(folder, name), 'w') as file:
      file.write(
        '# Segments csv of generated clips\n'
        f'# num_ytids={size}, num_segs={size}\n'
        '# YTID, start_seconds, end_seconds, positive_labels\n'
      )
      file.writelines(rows)
  context = multiprocessing.get_context('forkserver')
  with concurrent.futures.ProcessPoolExecutor(num_processes, context) as pool:
    done = pool.map(_write_clip, *zip(*jobs, strict=True), chunksize=8)
    for _ in tqdm.tqdm(done, total=len(jobs), unit=' clips'):
      pass
  os.rename(temporary, output)


def _mid(label: int) -> str:
  return f'/m/event{label:02}'


def _write_clip(
  path: str, sounds: Sequence[int], kinds: Sequence[int], seed: int
) -> None:
  rng = np.random.default_rng(seed)
  grey = rng.uniform(60, 160) + rng.normal(0, 20, (SIZE // 8, SIZE // 8, 1))
  colour = np.clip(grey + rng.normal(0, 15, 3), 0, 255).astype(np.uint8)
  background = Image.fromarray(colour).resize((SIZE, SIZE))
  images = [background.copy() for _ in range(SECONDS * FPS)]
  for i in kinds:
    list(KINDS.values())[i](images, rng)
  times = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
  audio = 0.003 * rng.normal(size=times.shape)
  for i in sounds:
    audio += rng.uniform(0.05, 0.2) * list(SOUNDS.values())[i](times, rng)
  write_media(path, images, audio)


def write_media(
  path: str, images: Sequence[Image.Image], audio: np.ndarray
) -> None:
  """Encodes pictures at 25 a second and samples in [-1, 1] at 48 kHz."""
  # Every build of FFmpeg has these encoders.
  with av.open(path, 'w') as container:
    video = container.add_stream('mpeg4', FPS, bit_rate=500_000)
    video.width, video.height = images[0].size
    video.codec_context.thread_count = 1
    sound = container.add_stream('aac', SAMPLE_RATE, layout='mono')
    for i, image in enumerate(images):
      frame = av.VideoFrame.from_image(image)
      frame.pts, frame.time_base = i, Fraction(1, FPS)
      container.mux(video.encode(frame))
    samples = (32767 * np.clip(audio, -1, 1)).astype(np.int16)
    chunk = av.AudioFrame.from_ndarray(samples[None], 's16', 'mono')
    chunk.rate = SAMPLE_RATE
    container.mux(sound.encode(chunk))
    for stream in (video, sound):
      container.mux(stream.encode())
