"""RandAugment (Cubuk et al. 2020): random distortions of a training image.

Fourteen operations on one scale of magnitudes, 0 to 10, as in the authors'
released code. Two things about that scale surprise:

- Color, Contrast, Brightness and Sharpness blend by 0.1 to 1.9, so magnitude 5
  leaves the image as it is, and both ends change it most.
- Posterize and Solarize are strongest at 0. Below magnitude 2.5 Posterize keeps
  no bit: the image is black.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_MAGNITUDE = 10
MAX_ROTATION = 30.0  # Degrees.
MAX_SHEAR = 0.3  # Pixels for each pixel of distance from the top left corner.
MAX_TRANSLATION = 100 / 224  # Of the side: 100 pixels at the usual 224.
GREY = (128, 128, 128)  # Where a moved image leaves a gap.


def _posterize(image: Image.Image, bits: int) -> Image.Image:
  """Keeps the highest bits; unlike Pillow's, `bits` may be 0."""
  mask = 256 - 2 ** (8 - bits)
  return image.point([value & mask for value in range(256)] * 3)


def _affine(
  image: Image.Image, a: float = 0, b: float = 0, c: float = 0, d: float = 0
) -> Image.Image:
  """Output (x, y) is the nearest input pixel at (x + a y + b, c x + y + d)."""
  return image.transform(
    image.size,
    Image.Transform.AFFINE,
    (1, a, b, c, 1, d),
    Image.Resampling.NEAREST,
    fillcolor=GREY,
  )


def _blend(
  enhancement: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float, int], Image.Image]:
  """Returns an operation that blends an image with its degenerate form.

  The factor is from 0.1, almost the degenerate form, through 1, the image, to
  1.9.
  """

  def apply(image: Image.Image, m: float, sign: int) -> Image.Image:
    factor = 0.1 + 1.8 * m
    if factor == 1:  # At the default magnitude it would be copied.
      return image
    return enhancement(image).enhance(factor)

  return apply


# Each takes an image, the magnitude as m in [0, 1] and a sign of -1 or 1.
OPERATIONS: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
  'Identity': lambda image, m, sign: image,
  'AutoContrast': lambda image, m, sign: ImageOps.autocontrast(image),
  'Equalize': lambda image, m, sign: ImageOps.equalize(image),
  'Rotate': lambda image, m, sign: image.rotate(
    sign * m * MAX_ROTATION, fillcolor=GREY
  ),
  'Solarize': lambda image, m, sign: ImageOps.solarize(image, int(256 * m)),
  'Color': _blend(ImageEnhance.Color),  # Towards its own grey.
  'Posterize': lambda image, m, sign: _posterize(image, int(4 * m)),
  'Contrast': _blend(ImageEnhance.Contrast),  # Towards its mean grey.
  'Brightness': _blend(ImageEnhance.Brightness),  # Towards black.
  'Sharpness': _blend(ImageEnhance.Sharpness),  # Towards a smoothed image.
  'ShearX': lambda image, m, sign: _affine(image, a=sign * m * MAX_SHEAR),
  'ShearY': lambda image, m, sign: _affine(image, c=sign * m * MAX_SHEAR),
  'TranslateX': lambda image, m, sign: _affine(
    image, b=sign * m * MAX_TRANSLATION * image.width
  ),
  'TranslateY': lambda image, m, sign: _affine(
    image, d=sign * m * MAX_TRANSLATION * image.height
  ),
}
NAMES = tuple(OPERATIONS)


def apply(
  name: str, image: Image.Image, magnitude: float, sign: int = 1
) -> Image.Image:
  """Applies one of OPERATIONS to an RGB image, and keeps its size.

  The magnitude is from 0 to MAX_MAGNITUDE; the sign, -1 or 1, is the direction
  of a geometric operation. Returns the same object where nothing changes.
  """
  return OPERATIONS[name](image, magnitude / MAX_MAGNITUDE, sign)


def rand_augment(
  image: Image.Image,
  rng: np.random.Generator,
  num_layers: int,
  magnitude: float,
) -> Image.Image:
  """Applies `num_layers` operations to an RGB image, one after the other.

  Each is drawn uniformly, and so is its sign; the same one may come again.
  """
  for _ in range(num_layers):
    name = NAMES[rng.integers(len(NAMES))]
    sign = 1 - 2 * int(rng.integers(2))
    image = apply(name, image, magnitude, sign)
  return image
