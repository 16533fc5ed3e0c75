"""A small stand-in for ImageNet: drawn images in ImageNet's own formats.

Each class is a shape in a colour, at a random place on a noisy background.
Sizes are as varied as ImageNet's, and so are the files: some are grey, CMYK,
PNG under a name that says JPEG, or progressive, and one is cut short.
"""

from collections.abc import Iterator
import contextlib
import importlib.util
import io
import os
import tempfile

import numpy as np
from PIL import Image, ImageDraw
import tensorflow_datasets as tfds

from experiments.benchmarks.imagenet import standin_shards
from experiments.benchmarks.imagenet.folders import Record
from experiments.benchmarks.imagenet.known import known_wnids
from experiments.benchmarks.imagenet.source import TFDS_NAME

NUM_CLASSES = 12
SPLITS = ('train', 'validation')
SHAPES = ('disc', 'square', 'triangle', 'cross')
COLOURS = ((220, 50, 50), (60, 190, 70), (70, 90, 230))
SIZES = ((500, 375), (500, 333), (375, 500), (500, 500), (400, 300))
SIZE_WEIGHTS = (0.6, 0.15, 0.15, 0.05, 0.05)
ODD_SIZES = {'tiny': (60, 40), 'tall': (100, 900), 'wide': (1000, 150)}
# The first images of every 40 are odd in one way each.
ODD = ('grey', 'cmyk', 'png', 'progressive', *ODD_SIZES)
ODD_PERIOD = 40


def wnids() -> list[str]:
  """The classes: ImageNet's first ones."""
  return known_wnids()[:NUM_CLASSES]


def records(split: str, count: int, seed: int) -> Iterator[Record]:
  """Draws the images of a split; the last one of 'train' is cut short."""
  stream = SPLITS.index(split)
  labels = np.random.default_rng((seed, stream)).permutation(
    np.arange(count) % NUM_CLASSES
  )
  for i, label in enumerate(labels.tolist()):
    rng = np.random.default_rng((seed, stream, i))
    kind = dict(enumerate(ODD)).get(i % ODD_PERIOD, '')
    jpeg = _encode(_draw(label, kind, rng), kind)
    if split == 'train':
      name = f'{wnids()[label]}_{10 + 37 * i}.JPEG'
      if i == count - 1:
        jpeg = jpeg[: len(jpeg) * 2 // 3]
    else:
      name = f'ILSVRC2012_val_{i + 1:08d}.JPEG'
    yield Record(name=name, jpeg=jpeg, label=label)


def generate(data_dir: str, num_train: int, num_eval: int, seed: int) -> None:
  """Writes the same images in each of the formats that can be read.

  `folders/` has train/<wnid>/ and val/<wnid>/; in `flat/` all of val/ is
  together, with Kaggle's file of labels; `tfds/` is TFDS's imagenet2012;
  `tars/` are shards as WebDataset's, `parquet/` files as on Hugging Face, if
  pyarrow is installed, both in the order of `folders/`. Names, images and
  labels follow from the seed.

  Raises ValueError if a number is too small or `data_dir` exists.
  """
  data_dir = os.path.abspath(data_dir)
  if os.path.exists(data_dir):
    raise ValueError(f'{data_dir} exists already: remove it, or write another.')
  counts = dict(zip(SPLITS, (num_train, num_eval), strict=True))
  # Training needs an image of each class, because they are read from folders.
  for split, least in (('train', NUM_CLASSES), ('validation', 1)):
    if counts[split] < least:
      raise ValueError(f'{counts[split]} images for {split}; give >= {least}.')
  parent = os.path.dirname(data_dir)
  os.makedirs(parent, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=parent) as temporary:
    written = os.path.join(temporary, 'written')
    write(
      written, {s: list(records(s, count, seed)) for s, count in counts.items()}
    )
    os.rename(written, data_dir)


def write(folder: str, images: dict[str, list[Record]]) -> None:
  """Writes images, by split, in each format into a folder of its name."""
  for split in images:
    _write_folders(folder, split, images[split])
    _write_shards(folder, split, images[split])
  tfds.disable_progress_bar()
  builder = _Builder(images, os.path.join(folder, 'tfds'))
  with (
    tempfile.TemporaryDirectory() as downloads,
    contextlib.redirect_stdout(None),  # It prints about a download.
  ):
    builder.download_and_prepare(download_dir=downloads)


def _draw(label: int, kind: str, rng: np.random.Generator) -> Image.Image:
  width, height = (
    ODD_SIZES.get(kind) or SIZES[rng.choice(len(SIZES), p=SIZE_WEIGHTS)]
  )
  blotches = rng.integers(60, 200, (5, 5, 3), dtype=np.uint8)
  background = Image.fromarray(blotches).resize(
    (width, height), Image.Resampling.BICUBIC
  )
  shape = SHAPES[label % len(SHAPES)]
  colour = COLOURS[label // len(SHAPES)]
  size = rng.uniform(0.4, 0.8) * min(width, height)
  left, top = rng.uniform(0, width - size), rng.uniform(0, height - size)
  box = lambda x0, y0, x1, y1: (
    *(left + x0 * size, top + y0 * size),
    *(left + x1 * size, top + y1 * size),
  )
  draw = ImageDraw.Draw(background)
  if shape == 'disc':
    draw.ellipse(box(0, 0, 1, 1), fill=colour)
  elif shape == 'square':
    draw.rectangle(box(0.1, 0.1, 0.9, 0.9), fill=colour)
  elif shape == 'triangle':
    corners = box(0.5, 0, 1, 1) + box(0, 1, 0, 1)[:2]
    draw.polygon(corners, fill=colour)
  else:
    draw.rectangle(box(0.35, 0, 0.65, 1), fill=colour)
    draw.rectangle(box(0, 0.35, 1, 0.65), fill=colour)
  noise = rng.normal(0, 15, (height, width, 3))
  pixels = np.clip(np.asarray(background) + noise, 0, 255)
  return Image.fromarray(pixels.astype(np.uint8))


def _encode(image: Image.Image, kind: str) -> bytes:
  mode = {'grey': 'L', 'cmyk': 'CMYK'}.get(kind, 'RGB')
  buffer = io.BytesIO()
  if kind == 'png':
    image.save(buffer, 'PNG')
  else:
    image.convert(mode).save(
      buffer, 'JPEG', quality=85, progressive=kind == 'progressive'
    )
  return buffer.getvalue()


def _write_folders(root: str, split: str, images: list[Record]) -> None:
  """Writes a split into `folders/` and `flat/`."""
  folder = {'train': 'train', 'validation': 'val'}[split]
  classes, solution = wnids(), ['ImageId,PredictionString\n']
  for image in images:
    wnid, name = classes[image['label']], image['name']
    subfolder = wnid if split == 'train' else ''
    for path in (
      os.path.join(root, 'folders', folder, wnid),
      os.path.join(root, 'flat', folder, subfolder),
    ):
      os.makedirs(path, exist_ok=True)
      with open(os.path.join(path, name), 'wb') as file:
        file.write(image['jpeg'])
    solution.append(f'{os.path.splitext(name)[0]},{wnid} 1 1 40 30 \n')
  if split == 'validation':
    with open(os.path.join(root, 'flat', 'LOC_val_solution.csv'), 'w') as file:
      file.writelines(solution)


def _write_shards(root: str, split: str, images: list[Record]) -> None:
  """Writes a split into `tars/` and `parquet/`, in the order of `folders/`."""
  in_order = sorted(images, key=lambda image: (image['label'], image['name']))
  standin_shards.write_tars(os.path.join(root, 'tars'), split, in_order)
  if importlib.util.find_spec('pyarrow'):
    standin_shards.write_parquet(
      os.path.join(root, 'parquet', 'data'), split, in_order, wnids()
    )


class _Builder(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]
):
  """TFDS's own builder by name, version and features; needs no TensorFlow."""

  name = TFDS_NAME
  VERSION = tfds.core.Version('5.1.0')

  def __init__(self, images: dict[str, list[Record]], data_dir: str):
    self._images = images
    super().__init__(data_dir=data_dir, file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(encoding_format='jpeg'),
        'label': tfds.features.ClassLabel(names=wnids()),
        'file_name': tfds.features.Text(),
      }
    )
    return tfds.core.DatasetInfo(
      builder=self, features=features, supervised_keys=('image', 'label')
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {s: self._generate_examples(x) for s, x in self._images.items()}

  def _generate_examples(self, images):
    for image in images:
      name = image['name']
      yield (
        name,
        {'image': image['jpeg'], 'label': image['label'], 'file_name': name},
      )
