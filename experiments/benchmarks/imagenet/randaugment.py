"""RandAugment (Cubuk et al. 2020): random distortions of a training image.

`PERCEIVER_IO` has the 16 operations of the authors' released code, in its
order. They are applied to the crop at its own resolution, before it is resized,
and lengths are pixels of the crop. `RANDAUGMENT` has the 14 operations of
RandAugment's paper. They are applied after the resize, and lengths are shares
of the side.

In both lists each layer draws one operation uniformly and always applies it,
with magnitudes on one scale from 0 to 10. Some things about it surprise:

- Color, Contrast, Brightness and Sharpness blend by 0.1 to 1.9, so magnitude 5
  leaves the image as it is, and both ends change it most. So at 5 a quarter of
  the draws from `PERCEIVER_IO` do nothing, and with Identity 5 of 14 of those
  from `RANDAUGMENT`.
- Posterize and Solarize are strongest at 0. Below magnitude 2.5 Posterize keeps
  no bit: the image is black.

The released code differs at other magnitudes than 5: its Contrast blends with
white for crops of at least 65,280 pixels, not with the mean grey. Its shears
keep the centre of the top left pixel in place, ours the corner.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_MAGNITUDE = 10
MAX_ROTATION = 30.0  # Degrees.
MAX_SHEAR = 0.3  # Pixels for each pixel of distance from the top left corner.
MAX_TRANSLATION = 100  # Pixels.
MAX_TRANSLATED_SHARE = 100 / 224  # Of the side: as many pixels at 224.
MAX_CUTOUT = 40  # Pixels from the centre to each side: 40 wide at 5.
MAX_ADDITION = 110  # Levels.
GREY = (128, 128, 128)  # Where a moved image leaves a gap.

# Takes an RGB image, the magnitude as m in [0, 1], a sign of -1 or 1, and a
# generator for further draws.
Operation = Callable[
  [Image.Image, float, int, np.random.Generator], Image.Image
]


def _by_level(
  image: Image.Image, function: Callable[[int], int]
) -> Image.Image:
  return image.point([function(level) for level in range(256)] * 3)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
  """Keeps the highest bits; unlike Pillow's, `bits` may be 0."""
  mask = 256 - 2 ** (8 - bits)
  return _by_level(image, lambda level: level & mask)


def _solarize_add(image: Image.Image, addition: int) -> Image.Image:
  """Adds to the levels in the lower half."""
  return _by_level(
    image, lambda level: min(level + addition, 255) if level < 128 else level
  )


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


def _cutout(
  image: Image.Image, reach: int, rng: np.random.Generator
) -> Image.Image:
  """Greys a square with `reach` pixels on each side of a uniform centre.

  What lies outside the image is cut off.
  """
  x, y = (int(rng.integers(side)) for side in image.size)
  box = (
    max(x - reach, 0),
    max(y - reach, 0),
    min(x + reach, image.width),
    min(y + reach, image.height),
  )
  image = image.copy()
  image.paste(GREY, box)
  return image


def _blend(
  enhancement: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Operation:
  """Returns an operation that blends an image with its degenerate form.

  The factor is from 0.1, almost the degenerate form, through 1, the image, to
  1.9.
  """

  def apply(image: Image.Image, m: float, *_: object) -> Image.Image:
    factor = 0.1 + 1.8 * m
    if factor == 1:  # At the default magnitude it would be copied.
      return image
    return enhancement(image).enhance(factor)

  return apply


PERCEIVER_IO: dict[str, Operation] = {
  'AutoContrast': lambda image, *_: ImageOps.autocontrast(image),
  'Equalize': lambda image, *_: ImageOps.equalize(image),
  'Invert': lambda image, *_: ImageOps.invert(image),
  'Rotate': lambda image, m, sign, _: image.rotate(
    sign * m * MAX_ROTATION, fillcolor=GREY
  ),
  'Posterize': lambda image, m, *_: _posterize(image, int(4 * m)),
  'Solarize': lambda image, m, *_: ImageOps.solarize(image, int(256 * m)),
  'Color': _blend(ImageEnhance.Color),  # Towards its own grey.
  'Contrast': _blend(ImageEnhance.Contrast),  # Towards its mean grey.
  'Brightness': _blend(ImageEnhance.Brightness),  # Towards black.
  'Sharpness': _blend(ImageEnhance.Sharpness),  # Towards a smoothed image.
  'ShearX': lambda image, m, sign, _: _affine(image, a=sign * m * MAX_SHEAR),
  'ShearY': lambda image, m, sign, _: _affine(image, c=sign * m * MAX_SHEAR),
  'TranslateX': lambda image, m, sign, _: _affine(
    image, b=sign * m * MAX_TRANSLATION
  ),
  'TranslateY': lambda image, m, sign, _: _affine(
    image, d=sign * m * MAX_TRANSLATION
  ),
  'Cutout': lambda image, m, _, rng: _cutout(image, int(m * MAX_CUTOUT), rng),
  'SolarizeAdd': lambda image, m, *_: _solarize_add(
    image, int(m * MAX_ADDITION)
  ),
}
RANDAUGMENT: dict[str, Operation] = {
  'Identity': lambda image, *_: image,
  **{
    name: PERCEIVER_IO[name]
    for name in (
      *('AutoContrast', 'Equalize', 'Rotate', 'Solarize', 'Color'),
      *('Posterize', 'Contrast', 'Brightness', 'Sharpness', 'ShearX', 'ShearY'),
    )
  },
  'TranslateX': lambda image, m, sign, _: _affine(
    image, b=sign * m * MAX_TRANSLATED_SHARE * image.width
  ),
  'TranslateY': lambda image, m, sign, _: _affine(
    image, d=sign * m * MAX_TRANSLATED_SHARE * image.height
  ),
}
LISTS = {'perceiver_io': PERCEIVER_IO, 'randaugment': RANDAUGMENT}


def rand_augment(
  image: Image.Image,
  rng: np.random.Generator,
  num_layers: int,
  magnitude: float,
  operations: Mapping[str, Operation],
) -> Image.Image:
  """Applies `num_layers` operations to an RGB image, one after the other.

  Each is drawn uniformly, and so is its sign; the same one may come again.

  Args:
    image: the image; it does not change.
    rng: for the draws.
    num_layers: how many operations to apply.
    magnitude: from 0 to MAX_MAGNITUDE.
    operations: `PERCEIVER_IO` or `RANDAUGMENT`.

  Returns:
    An image of the same size; the same object where nothing changes.
  """
  names = tuple(operations)
  for _ in range(num_layers):
    name = names[rng.integers(len(names))]
    sign = 1 - 2 * int(rng.integers(2))
    image = operations[name](image, magnitude / MAX_MAGNITUDE, sign, rng)
  return image
