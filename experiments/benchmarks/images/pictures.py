"""Decodes people's own pictures: in many formats, upright, on white.

`decoding` reads data sets as the paper's pipelines do; this module reads
pictures as people see them.
"""

import numpy as np
from PIL import Image, ImageChops, ImageOps, ImageStat

from experiments import errors
from experiments.benchmarks.images import decoding
from experiments.benchmarks.images.decoding import DamagedImageError

# A closed list: Pillow's other readers start programs (EPS), cannot recognise
# their files (TGA), or decode in Python, which takes minutes (QOI).
SUFFIXES = {
  'AVIF': ('.avif',),
  'BMP': ('.bmp',),
  'GIF': ('.gif',),
  'JPEG': ('.jpeg', '.jpg'),
  'JPEG2000': ('.jp2',),
  'PNG': ('.png',),
  'PPM': ('.pbm', '.pgm', '.ppm'),
  'TIFF': ('.tif', '.tiff'),
  'WEBP': ('.webp',),
}
FORMATS = tuple(SUFFIXES)

WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
# Bits that cameras and scanners use for a number.
BITS = (8, 10, 12, 14, 16, 24, 32)


def decode(data: bytes) -> Image.Image:
  """Decodes a picture to RGB, as people see it.

  The picture is turned as EXIF says. Transparent parts become white, like the
  pages that such pictures are made for: the colours stored there are arbitrary,
  and often black. An animation, or a file of several pages, gives its first
  picture. Colour profiles are ignored.

  Numbers of more than 8 bits are scaled from their range to 8 bits. The range
  has the fewest of 8, 10, 12, 14, 16, 24 or 32 bits that hold the largest
  number, because files of 16 bits often use only 10 to 14 and do not say so.
  The range of floats is 0 to 1 if none is larger.

  The data is a file in one of FORMATS. The image is fully decoded: using it
  raises no further error.

  Raises:
    DamagedImageError: as `decoding.decode`; also if numbers are negative or not
      finite, or if 16-bit colours are so small that all become 0.
  """
  with decoding.naming_damage(data, FORMATS):
    image = _upright(data)
    return _on(image, WHITE) if image.mode == 'RGBA' else image


def grey_square(data: bytes, size: int) -> np.ndarray:
  """Decodes the central square of a picture, small and in grey.

  Transparent parts become the ground of a drawing: black if the drawing is
  bright, as in data sets that are bright on dark, otherwise white.

  Args:
    data: the content of a file, in one of FORMATS.
    size: side of the result in pixels. Each is the mean of the area that it
      covers, so that an image of this size stays as it is.

  Returns:
    [size, size] uint8.

  Raises:
    DamagedImageError: as `decode`.
  """
  with decoding.naming_damage(data, FORMATS):
    image = _upright(data)
    if image.mode == 'RGBA':
      image = _on(image, BLACK if _brightness(image) > 0.5 else WHITE)
    image = image.convert('L')
    box = decoding.central_box(*image.size, fraction=1)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX, box))


def _upright(data: bytes) -> Image.Image:
  """Decodes a picture, upright, to RGB; to RGBA if it may be transparent."""
  image = decoding.open_checked(data, FORMATS)
  raw_mode = _raw_mode(image)
  image.load()
  try:
    ImageOps.exif_transpose(image, in_place=True)
  except decoding.PILLOW_ERRORS as error:  # Then it is shown as stored.
    if errors.is_fault(error):
      raise
  if image.mode == 'F' or image.mode.startswith('I'):
    return _from_numbers(image)
  has_16_bits = ';16' in raw_mode and image.mode in ('RGB', 'RGBA')
  key = image.info.get('transparency')
  if has_16_bits and isinstance(key, tuple):  # A colour, 16 bits a channel.
    image.info['transparency'] = tuple(x >> 8 for x in key)
  image = image.convert('RGBA' if image.has_transparency_data else 'RGB')
  return _stretched(image) if has_16_bits else image


def _raw_mode(image: Image.Image) -> str:
  """Returns the raw mode of an image that is not loaded yet; '' if unknown."""
  tiles = getattr(image, 'tile', None)
  arguments = tiles[0][3] if tiles else None
  if isinstance(arguments, tuple) and arguments:
    arguments = arguments[0]
  return arguments if isinstance(arguments, str) else ''


def _from_numbers(image: Image.Image) -> Image.Image:
  """Converts integers or floats of any range to grey."""
  numbers = np.asarray(image)
  least, most = numbers.min(), numbers.max()
  if not 0 <= least <= most < 2 ** BITS[-1]:  # False for NaN too.
    raise DamagedImageError(
      f'The image has numbers from {least} to {most}, which cannot be'
      f' brightness: it must be from 0 to 2**{BITS[-1]}.'
    )
  key = image.info.get('transparency')
  is_opaque = numbers != key if isinstance(key, int) else None
  whole = float(_range(most))
  if image.mode == 'F' and most < 2:  # Resampling may overshoot 1.
    whole = max(1.0, float(most))
  levels = np.rint(numbers.astype(np.float32) * (255 / whole)).astype(np.uint8)
  tags = getattr(image, 'tag_v2', {})
  if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts up to 8 bits.
    levels = 255 - levels
  grey = Image.fromarray(levels)
  if is_opaque is None:
    return grey.convert('RGB')
  grey = grey.convert('RGBA')
  grey.putalpha(Image.fromarray(is_opaque))
  return grey


_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # A tag of TIFF, and one of its values.


def _range(most: float) -> int:
  """Returns the largest number of the fewest BITS that hold `most`."""
  return next(2**bits - 1 for bits in BITS if most < 2**bits)


def _stretched(image: Image.Image) -> Image.Image:
  """Scales 16-bit colours, of which Pillow keeps the high bytes, to 8 bits."""
  colours = image.convert('RGB')
  most = int(np.asarray(colours).max())
  if most == 0:
    raise DamagedImageError(
      'The image has 16-bit colours below 256, which all become 0 in 8 bits:'
      ' save it with 8 bits.'
    )
  # Low bytes are lost: 12 bits become 16 levels, over the whole range.
  whole = _range(most * 256 + 255) >> 8
  stretched = colours.point(
    [min(255, round(x * 255 / whole)) for x in range(256)] * 3
  )
  if image.mode == 'RGBA':
    stretched.putalpha(image.getchannel('A'))
  return stretched


def _on(image: Image.Image, ground: tuple[int, ...]) -> Image.Image:
  canvas = Image.new('RGBA', image.size, ground)
  canvas.alpha_composite(image)
  return canvas.convert('RGB')


def _brightness(image: Image.Image) -> float:
  """Mean brightness, 0 to 1, of the visible parts of RGBA; 0 without any."""
  alpha = image.getchannel('A')
  visible = ImageStat.Stat(alpha).sum[0]
  seen = ImageChops.multiply(image.convert('L'), alpha)
  return ImageStat.Stat(seen).sum[0] / visible if visible else 0.0
