"""Decoding, cropping and flipping of images, for the workers of the pipeline.

Images are Pillow's, in RGB. All randomness comes from a generator that is
passed in, so that the data depends on the seed alone.
"""

from collections.abc import Iterator, Sequence
import contextlib
import io
import math
import struct
import zlib

import numpy as np
from PIL import features, Image, UnidentifiedImageError

from experiments import errors
from experiments.errors import DamagedRecordError

# More than ImageNet's images have (0.2 million on average, tens of millions at
# most), and below Pillow's warning. Decoded it is 320 MB, 4 bytes a pixel.
MAX_PIXELS = 80_000_000

# The Inception crop (Szegedy et al. 2015), with its published settings.
MIN_AREA = 0.08  # Fraction of the image; the largest is 1.
MAX_ASPECT = 4 / 3  # Width by height; the smallest is its inverse.
CROP_TRIES = 10
MIN_COVERED = 0.1  # Of the image, by a `distorted_box`.

CENTRAL_FRACTION = 224 / 256  # Of the short side, in evaluation.

Box = tuple[float, float, float, float]  # Left, top, right, bottom; in pixels.

# What Pillow may raise on bad data: its readers parse headers in Python.
PILLOW_ERRORS = (
  OSError,
  RuntimeError,  # From AVIF's decoder.
  SyntaxError,
  ValueError,
  LookupError,
  TypeError,
  EOFError,
  struct.error,
  zlib.error,
  Image.DecompressionBombError,
  Image.DecompressionBombWarning,  # Where warnings are errors.
)


# Pillow's features that read these formats; its published wheels have both.
_OPTIONAL = {'AVIF': 'avif', 'WEBP': 'webp'}
# Brands in the headers of phones' photos; AVIF has other brands.
_HEIC = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'mif1', b'msf1')


class DamagedImageError(DamagedRecordError):
  """An image that cannot be decoded, with the reason."""


def decode(data: bytes) -> Image.Image:
  """Decodes a data set's JPEG or PNG file, whatever its name says, to RGB.

  Grey, CMYK (as Adobe writes it, inverted), palette and 16-bit images are
  converted. Transparency is dropped. Colour profiles and the orientation in
  EXIF are ignored, as by TensorFlow's decoder, with which the paper's pipeline
  reads ImageNet. `pictures.decode` reads people's own files. The image is fully
  decoded: using it raises no further error.

  Raises:
    DamagedImageError: if the data is neither, is cut off, or has more than
      MAX_PIXELS pixels by its header, before any memory is allocated.
  """
  formats = ('JPEG', 'PNG')
  with naming_damage(data, formats):
    image = open_checked(data, formats)
    image.load()
    return _to_rgb(image)


@contextlib.contextmanager
def naming_damage(data: bytes, formats: Sequence[str]) -> Iterator[None]:
  """Raises DamagedImageError for whatever Pillow raises on bad data.

  The message names `formats`, those of Pillow that were tried.
  """
  try:
    yield
  except DamagedImageError:
    raise
  except UnidentifiedImageError as error:
    raise DamagedImageError(
      f'The image ({len(data)} bytes) is {_none_of(formats)}, or its header is'
      f' damaged; it begins with {data[:8]!r}.{_advice(data, formats)}'
    ) from error
  except PILLOW_ERRORS as error:
    if errors.is_fault(error):
      raise
    raise DamagedImageError(
      f'The image ({len(data)} bytes) cannot be decoded: {error!r}'
    ) from error


def open_checked(data: bytes, formats: tuple[str, ...]) -> Image.Image:
  """Opens an image of at most MAX_PIXELS; reads only its header.

  Raises:
    DamagedImageError: if it has more pixels.
    PILLOW_ERRORS: for bad data.
  """
  image = Image.open(io.BytesIO(data), formats=formats)
  if image.width * image.height > MAX_PIXELS:
    raise DamagedImageError(
      f'The image has {image.width} x {image.height} pixels; at most'
      f' {MAX_PIXELS} are decoded.'
    )
  return image


def _none_of(formats: Sequence[str]) -> str:
  *others, last = formats
  if len(others) == 1:
    return f'neither {others[0]} nor {last}'
  return f'none of {", ".join(others)} and {last}'


def _advice(data: bytes, formats: Sequence[str]) -> str:
  if data[4:8] == b'ftyp' and data[8:12] in _HEIC:
    return ' It may be HEIC, as phones store photos: save it as JPEG.'
  lacking = [
    name
    for name, feature in _OPTIONAL.items()
    if name in formats and not features.check(feature)
  ]
  return f' This Pillow lacks {", ".join(lacking)}.' if lacking else ''


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode == 'RGB':  # `convert` would copy.
    return image
  if image.mode.startswith('I'):  # 16 bits of grey, which `convert` clips.
    high_byte = np.asarray(image).astype(np.uint16) >> 8
    image = Image.fromarray(high_byte.astype(np.uint8))
  if image.mode == 'P':  # `convert` warns of some transparent palettes.
    image = image.convert('RGBA')
  return image.convert('RGB')


def inception_box(width: int, height: int, rng: np.random.Generator) -> Box:
  """Draws a part of an image: its area, its aspect, then its place.

  The area is uniform between MIN_AREA and 1 of the image, the aspect
  log-uniform between 1 / MAX_ASPECT and MAX_ASPECT. If CROP_TRIES such
  rectangles do not fit into the image, the box is the largest central one whose
  aspect lies in that range.

  The box has at least one pixel, and is inside the image.
  """
  log_aspect = math.log(MAX_ASPECT)
  for _ in range(CROP_TRIES):
    area = rng.uniform(MIN_AREA, 1) * width * height
    aspect = math.exp(rng.uniform(-log_aspect, log_aspect))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 1 <= w <= width and 1 <= h <= height:
      left = int(rng.integers(width - w, endpoint=True))
      top = int(rng.integers(height - h, endpoint=True))
      return left, top, left + w, top + h
  w = min(width, int(height * MAX_ASPECT))
  h = min(height, int(width * MAX_ASPECT))
  left, top = (width - w) // 2, (height - h) // 2
  return left, top, left + w, top + h


def distorted_box(width: int, height: int, rng: np.random.Generator) -> Box:
  """Draws a part of an image: its aspect, its height, then its place.

  This is the rule of TensorFlow's `sample_distorted_bounding_box` as the
  authors' released code calls it. The aspect is uniform between 1 / MAX_ASPECT
  and MAX_ASPECT. The height is a uniform whole number between those that give
  MIN_AREA and all of the image's area, as far as they fit into it. So small
  areas are more frequent than in `inception_box`: at 500 x 375 pixels the mean
  is 0.388, and a third is below a quarter. Boxes below MIN_COVERED of the area
  are drawn again. After CROP_TRIES, or if the box is the whole image, it is the
  `central_box` in whole pixels. The place is uniform, except that a box with
  fewer rows or columns than the image never reaches the last one.

  The box has at least one pixel, and is inside the image.
  """
  area = width * height
  for _ in range(CROP_TRIES):
    aspect = rng.uniform(1 / MAX_ASPECT, MAX_ASPECT)
    least, most = (
      round(math.sqrt(share * area / aspect)) for share in (MIN_AREA, 1)
    )
    most = min(most, height, int((width + 0.5) / aspect))
    h = int(rng.integers(min(least, most), most, endpoint=True))
    # Rounding may leave the range of areas; one row more or less may mend it.
    h += round(h * aspect) * h < MIN_AREA * area
    h -= round(h * aspect) * h > area
    w = round(h * aspect)
    fits = 1 <= w <= width and 1 <= h <= height
    if not fits or w * h < MIN_COVERED * area:
      continue
    if (w, h) == (width, height):
      break
    left, top = (
      int(rng.integers(rest)) if rest else 0 for rest in (width - w, height - h)
    )
    return left, top, left + w, top + h
  return central_box(width, height, whole_pixels=True)


def crop(image: Image.Image, size: int, box: Box | None = None) -> Image.Image:
  """Resizes an image or a part of it to size x size pixels, bicubic."""
  return image.resize((size, size), Image.Resampling.BICUBIC, box)


def central_box(
  width: int,
  height: int,
  fraction: float = CENTRAL_FRACTION,
  whole_pixels: bool = False,
) -> Box:
  """Returns the central square of an image, in its pixels.

  Its side is a fraction of the image's short side: unrounded, or in whole
  pixels, rounded down, at an offset that is rounded up, as in the authors'
  released code.
  """
  side = fraction * min(width, height)
  left, top = (width - side) / 2, (height - side) / 2
  if whole_pixels:
    side = max(int(side), 1)
    left, top = -(-(width - side) // 2), -(-(height - side) // 2)
  return left, top, left + side, top + side


def random_flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
  """Exchanges left and right with a probability of one half."""
  if rng.random() < 0.5:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  return image
