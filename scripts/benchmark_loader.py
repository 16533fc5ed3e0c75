"""Times the loading of ImageNet's training images, on generated photographs.

  python -m scripts.benchmark_loader --workers=1,2 --json=loader.json

The bare work is to decode and resize a JPEG; the training transform does
everything up to the array that is batched. They take turns, A B A B …, in one
process, so that a drift of the machine's speed affects both alike; so do the
forms of files, which are read from the page cache in a new random order each
turn, and the numbers of worker processes. The rates of workers are meaningful
only while nothing else runs.
"""

from collections.abc import Callable
import contextlib
import io
import os
import re
import statistics
import tempfile
import time
from typing import Any

from absl import app, flags
import numpy as np
from PIL import Image, ImageDraw

from configs import imagenet
from experiments import benchmarks, data_workers, path_flags, pipeline
from experiments.benchmarks.imagenet import source, standin
from experiments.benchmarks.imagenet.folders import Record
from scripts.shared import command, measurements

_WORKERS = flags.DEFINE_list(
  'workers', [], 'Numbers of worker processes to time the pipeline with.'
)
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 15, 'Timed turns of each contender.'
)
_IMAGES = flags.DEFINE_integer('images', 64, 'Photographs per turn.')
_FILES = flags.DEFINE_integer(
  'files', 400, 'Photographs in each form of files; 0: no forms are timed.'
)
_BATCHES = flags.DEFINE_integer(
  'batches', 40, 'Timed batches per worker process and turn.'
)
_JSON = path_flags.define_path(
  'json', None, 'The file to write the results to.'
)

WIDTH, HEIGHT = 500, 375  # ImageNet's most frequent size.
SIZE = 224
BATCH_SIZE = 32


def photograph(rng: np.random.Generator) -> bytes:
  """Makes a JPEG of waves of light, discs and sensor noise, about 90 kB."""
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  pixels = np.full((HEIGHT, WIDTH, 3), 128.0)
  for _ in range(6):
    fx, fy = rng.normal(scale=5, size=2)  # Waves across the image.
    wave = np.sin(2 * np.pi * (fx * x / WIDTH + fy * y / HEIGHT))
    pixels += wave[..., None] * rng.uniform(-30, 30, size=3)
  image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
  draw = ImageDraw.Draw(image)
  for _ in range(12):
    centre = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT))
    colour = tuple(rng.integers(256, size=3).tolist())
    draw.circle(centre, rng.uniform(10, 70), fill=colour)
  noise = rng.normal(scale=10, size=(HEIGHT, WIDTH, 1))
  pixels = (np.asarray(image) + noise).clip(0, 255)
  stream = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(stream, 'JPEG', quality=90)
  return stream.getvalue()


def photographs(count: int) -> list[Record]:
  """Makes records like those of ImageNet's data source."""
  rng = np.random.default_rng(0)
  return [
    Record(
      name=f'{i:04d}.JPEG',
      jpeg=photograph(rng),
      label=i % standin.NUM_CLASSES,
    )
    for i in range(count)
  ]


def decode_and_resize(data: bytes) -> Image.Image:
  """Does the bare work, without any of our code."""
  image = Image.open(io.BytesIO(data))
  return image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def time_transforms(records: list[Record], repetitions: int) -> dict[str, Any]:
  """Returns seconds per image, medians over turns, of both contenders."""
  task = benchmarks.create(**imagenet.get_config().task)
  rng = np.random.default_rng(0)
  contenders: dict[str, Callable[[Any], Any]] = {
    'bare': lambda record: decode_and_resize(record['jpeg']),
    'training': lambda record: task.train_example(record, rng),
  }
  times: dict[str, list[float]] = {name: [] for name in contenders}
  for _ in range(repetitions + 1):
    for name, transform in contenders.items():
      start = time.perf_counter()
      for record in records:
        transform(record)
      times[name].append((time.perf_counter() - start) / len(records))
  # The first turn warms up.
  medians = {name: statistics.median(t[1:]) for name, t in times.items()}
  return {
    'kilobytes': sum(len(r['jpeg']) for r in records) / len(records) / 1e3,
    'bare_s': medians['bare'],
    'training_s': medians['training'],
    'ratio': medians['training'] / medians['bare'],
  }


def time_forms(
  records: list[Record], repetitions: int, folder: str
) -> list[dict[str, Any]]:
  """Returns images per second by form of files, with ratios to folders.

  Args:
    records: photographs, at least one of each class of the stand-in.
    repetitions: timed turns of each form.
    folder: a new one, where they are written.

  Returns:
    By form: images per second, read and transformed in one process; the median
    over turns of the ratio to folders in the same turn; and the seconds that
    reading alone takes, for an image.
  """
  standin.write(folder, {'train': records})
  forms = ['folders', *sorted({*os.listdir(folder)} - {'folders', 'flat'})]
  count, num_classes = len(records), standin.NUM_CLASSES
  sources = {
    form: source.open_source(
      os.path.join(folder, form),
      'train',
      num_examples=count,
      num_classes=num_classes,
    )
    for form in forms
  }
  task = benchmarks.create(**imagenet.get_config().task)
  times: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
  for turn in range(repetitions + 1):
    order = np.random.default_rng(turn).permutation(count).tolist()
    for form, images in sources.items():
      rng = np.random.default_rng(turn)
      reading, start = 0.0, time.perf_counter()
      for i in order:
        begin = time.perf_counter()
        image = images[i]
        reading += time.perf_counter() - begin
        task.train_example(image, rng)
      times[form].append((time.perf_counter() - start, reading))
  # The first turn warms up: [forms, turns, 2]
  seconds = np.array([times[form][1:] for form in forms]) / count
  ratios = seconds[0, :, 0] / seconds[:, :, 0]
  return [
    {
      'form': form,
      'images_per_s': float(1 / np.median(seconds[i, :, 0])),
      'ratio': float(np.median(ratios[i])),
      'reading_s': float(np.median(seconds[i, :, 1])),
    }
    for i, form in enumerate(forms)
  ]


def examples_per_second(
  records: list[Record], num_workers: int, num_batches: int
) -> float:
  """Measures the pipeline, once its processes run and its buffers are used."""
  batches: Any = pipeline.train_batches(
    benchmarks.create(**imagenet.get_config().task),
    records,
    batch_size=BATCH_SIZE,
    seed=0,
    num_workers=num_workers,
  )
  with contextlib.closing(batches):
    for _ in range(4 * num_workers):  # More than wait in buffers.
      next(batches)
    start = time.perf_counter()
    for _ in range(num_batches * num_workers):
      next(batches)
    seconds = time.perf_counter() - start
  return num_batches * num_workers * BATCH_SIZE / seconds


def time_workers(
  records: list[Record],
  workers: list[int],
  repetitions: int,
  num_batches: int,
) -> list[dict[str, Any]]:
  """Returns examples per second by number of workers, with ratios."""
  rates: dict[int, list[float]] = {count: [] for count in workers}
  for _ in range(repetitions):
    for count in workers:
      rates[count].append(examples_per_second(records, count, num_batches))
  medians = {count: statistics.median(rates[count]) for count in workers}
  return [
    {
      'workers': count,
      'examples_per_s': medians[count],
      'ratio': medians[count] / medians[workers[0]],
    }
    for count in workers
  ]


@command.running()
def main(argv: list[str]) -> None:
  del argv
  for flag in (_REPETITIONS, _IMAGES, _BATCHES):
    if flag.value < 1:
      raise ValueError(f'--{flag.name}={flag.value} must be at least 1.')
  if 0 < _FILES.value < standin.NUM_CLASSES or _FILES.value < 0:
    raise ValueError(
      f'--files={_FILES.value} must be 0 or at least {standin.NUM_CLASSES}.'
    )
  if not all(re.fullmatch(r'[1-9]\d*', count) for count in _WORKERS.value):
    raise ValueError(
      f'--workers={_WORKERS.value} must be numbers of at least 1.'
    )
  workers = [int(count) for count in _WORKERS.value]
  if _JSON.value:
    measurements.check(_JSON.value)
  spec = benchmarks.create(**imagenet.get_config().task).example_spec()
  data_workers.check_shared_memory(
    pipeline.shared_bytes(spec, BATCH_SIZE, max(workers, default=0))
  )
  records = photographs(_IMAGES.value)
  transforms = time_transforms(records, _REPETITIONS.value)
  print(
    f'{os.cpu_count()}-core CPU, {WIDTH}x{HEIGHT} JPEGs of'
    f' {transforms["kilobytes"]:.0f} kB, medians of {_REPETITIONS.value}\n'
    f'decode and resize   {transforms["bare_s"] * 1e3:7.2f} ms an image\n'
    f'training transform  {transforms["training_s"] * 1e3:7.2f} ms an image,'
    f' {transforms["ratio"]:.2f} times as long'
  )
  forms = []
  if _FILES.value:
    with tempfile.TemporaryDirectory() as folder:
      forms = time_forms(photographs(_FILES.value), _REPETITIONS.value, folder)
  for r in forms:
    print(
      f'{r["form"]:12} {r["images_per_s"]:9.1f} images/s, {r["ratio"]:.3f} of'
      f' folders; reading {r["reading_s"] * 1e3:.3f} ms an image'
    )
  loader = time_workers(records, workers, _REPETITIONS.value, _BATCHES.value)
  for r in loader:
    print(
      f'{r["workers"]:2} worker processes {r["examples_per_s"]:9.1f}'
      f' examples/s, {r["ratio"]:.2f} times the first'
    )
  if _JSON.value:
    facts = {
      'cpu_cores': os.cpu_count(),
      'transforms': transforms,
      'forms': forms,
      'loader': loader,
    }
    measurements.write(_JSON.value, 'benchmark_loader', facts)


if __name__ == '__main__':
  app.run(main)
