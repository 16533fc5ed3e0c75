"""RandAugment's operations against independent statements of what they do."""

import collections
import math

import numpy as np
from PIL import Image
import pytest

from experiments.benchmarks.imagenet import randaugment

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(256, size=(24, 32, 3), dtype=np.uint8)
IMAGES = {
  'colours': COLOURS,
  # Few levels, unlike in each channel: much for histograms to do.
  'dull': (COLOURS // [8, 16, 64] + [40, 100, 250]).astype(np.uint8),
  'constant': np.full((5, 7, 3), [30, 128, 200], np.uint8),
  'black': np.zeros((4, 4, 3), np.uint8),
  'row': COLOURS[:1],
  'pixel': COLOURS[:1, :1],
}

# A reference takes pixels [H, W, 3] as integers, the magnitude and the sign. It
# returns all arrays that are right; they differ where rounding decides.


def unary(function):
  return lambda p, m, s: [function(p)]


def between(value, error):
  """Both whole levels where `value`, cut off, is known up to `error`."""
  return [
    np.floor((value + e).clip(0, 255)).astype(int) for e in (-error, error)
  ]


def blend(degenerate, p, m):
  factor = 0.1 + 0.18 * m
  # float32 is exact to 4e-5 below 600, and wholly so without a difference.
  error = 1e-4 * (degenerate != p)
  return between(degenerate + factor * (p - degenerate), error)


def greys(p):
  """Luminance (ITU-R 601), rounded; Pillow's weights have 16 bits."""
  grey = p @ [0.299, 0.587, 0.114]
  return [np.floor(grey + 0.5 + e).astype(int) for e in (-0.01, 0.01)]


def color(p, m, s):
  return [x for grey in greys(p) for x in blend(grey[..., None], p, m)]


def contrast(p, m, s):
  means = {math.floor(grey.mean() + 0.5) for grey in greys(p)}
  return [x for mean in means for x in blend(np.full_like(p, mean), p, m)]


def sharpness(p, m, s):
  smooth = p.copy()
  h, w, _ = p.shape
  for y in range(1, h - 1):
    for x in range(1, w - 1):
      around = p[y - 1 : y + 2, x - 1 : x + 2].sum(axis=(0, 1))
      # Sums of whole numbers over 13 are never halfway.
      smooth[y, x] = np.floor((around + 4 * p[y, x]) / 13 + 0.5)
  return blend(smooth, p, m)


def auto_contrast(p, m, s):
  low, high = p.min(axis=(0, 1)), p.max(axis=(0, 1))
  stretched = (p - low) * (255 / np.maximum(high - low, 1))
  return between(np.where(high > low, stretched, p), 1e-9 * (high > low))


def equalize(p):
  """Each level becomes the share of darker pixels, in 255 steps."""
  result = p.copy()
  for c in range(3):
    channel = p[..., c]
    step = np.sum(channel < channel.max()) // 255
    if step:
      for level in np.unique(channel):
        darker = np.sum(channel < level)
        result[..., c][channel == level] = min(
          (darker + step // 2) // step, 255
        )
  return result


def posterize(p, m, s):
  step = 2 ** (8 - 4 * m // 10)
  return [p // step * step]


def geometric(inverse):
  """Maps points of the output to the input; the corner pixel ends at (1, 1)."""

  def reference(p, m, s):
    h, w, _ = p.shape
    y, x = np.mgrid[:h, :w] + 0.5
    points = inverse(x, y, w, h, s * m / 10)
    error = (w + h + 2) * 2.0**-17  # Pillow's factors have 16 binary places.
    results = []
    for dx in (-error, error):
      for dy in (-error, error):
        column = np.floor(points[0] + dx).astype(int)
        row = np.floor(points[1] + dy).astype(int)
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        moved = p[row.clip(0, h - 1), column.clip(0, w - 1)]
        results.append(np.where(inside[..., None], moved, 128))
    return results

  return reference


def rotation(x, y, w, h, m):
  """Counterclockwise by 30 m degrees; y points down."""
  point = (x - w / 2) + 1j * (y - h / 2)
  point *= np.exp(1j * math.radians(30 * m))
  return point.real + w / 2, point.imag + h / 2


REFERENCES = {
  'Identity': unary(lambda p: p),
  'AutoContrast': auto_contrast,
  'Equalize': unary(equalize),
  'Rotate': geometric(rotation),
  'Solarize': lambda p, m, s: [np.where(p >= 256 * m // 10, 255 - p, p)],
  'Color': color,
  'Posterize': posterize,
  'Contrast': contrast,
  'Brightness': lambda p, m, s: blend(np.zeros_like(p), p, m),
  'Sharpness': sharpness,
  'ShearX': geometric(lambda x, y, w, h, m: (x + 0.3 * m * y, y)),
  'ShearY': geometric(lambda x, y, w, h, m: (x, y + 0.3 * m * x)),
  'TranslateX': geometric(lambda x, y, w, h, m: (x + m * w / 2.24, y)),
  'TranslateY': geometric(lambda x, y, w, h, m: (x, y + m * h / 2.24)),
}


def apply(name, pixels, magnitude, sign=1):
  image = Image.fromarray(pixels)
  result = randaugment.apply(name, image, magnitude, sign)
  np.testing.assert_array_equal(np.asarray(image), pixels)  # Not in place.
  assert (result.mode, result.size) == (image.mode, image.size)
  return np.asarray(result)


def test_there_are_the_papers_operations():
  assert set(randaugment.OPERATIONS) == set(REFERENCES)
  assert len(randaugment.NAMES) == 14


@pytest.mark.parametrize('kind', IMAGES)
@pytest.mark.parametrize('name', REFERENCES)
def test_operation_is_as_defined(name, kind):
  pixels = IMAGES[kind]
  for magnitude in range(11):
    for sign in (-1, 1):
      result = apply(name, pixels, magnitude, sign)
      references = REFERENCES[name](pixels.astype(int), magnitude, sign)
      right = np.any([result == x for x in references], axis=0)
      assert right.all(), (magnitude, sign, np.argwhere(~right)[0])


@pytest.mark.parametrize(
  'name', ['Color', 'Contrast', 'Brightness', 'Sharpness']
)
def test_enhancements_change_nothing_at_five(name):
  np.testing.assert_array_equal(apply(name, COLOURS, 5), COLOURS)
  assert (apply(name, COLOURS, 4) != apply(name, COLOURS, 6)).any()


@pytest.mark.parametrize(
  ('name', 'axis'), [('TranslateX', 1), ('TranslateY', 0)]
)
def test_translation_is_a_hundred_pixels_at_most(name, axis):
  pixels = RNG.integers(256, size=(224, 224, 3), dtype=np.uint8)
  moved = np.moveaxis(apply(name, pixels, 10), axis, 0)
  np.testing.assert_array_equal(moved[:124], np.moveaxis(pixels, axis, 0)[100:])
  assert (moved[124:] == 128).all()


def augment(seed, num_layers=4, magnitude=7):
  image = Image.fromarray(COLOURS)
  rng = np.random.default_rng(seed)
  return randaugment.rand_augment(image, rng, num_layers, magnitude).tobytes()


def test_the_seed_decides():
  results = [augment(seed) for seed in range(20)]
  assert results == [augment(seed) for seed in range(20)]
  assert len(set(results)) > 15  # Some are all grey or black.
  assert augment(0, num_layers=0) == COLOURS.tobytes()


def test_layers_are_drawn_uniformly_and_independently(monkeypatch):
  calls = []

  def record(name, image, magnitude, sign):
    calls.append((name, magnitude, sign))
    return image

  monkeypatch.setattr(randaugment, 'apply', record)
  rng, image = np.random.default_rng(0), Image.new('RGB', (1, 1))
  runs = 50 * 14**2
  for _ in range(runs):
    randaugment.rand_augment(image, rng, 2, 3)
  names, magnitudes, signs = zip(*calls, strict=True)
  assert len(calls) == 2 * runs
  assert set(magnitudes) == {3}
  pairs = collections.Counter(zip(names[::2], names[1::2], strict=True))
  chi_square = sum(
    (pairs[a, b] - 50) ** 2 / 50
    for a in randaugment.NAMES
    for b in randaugment.NAMES
  )
  assert chi_square < 263  # The 99.9 % quantile with 195 degrees of freedom.
  for name in randaugment.NAMES:
    drawn = [s for n, s in zip(names, signs, strict=True) if n == name]
    assert set(drawn) == {-1, 1}
    assert abs(sum(drawn)) < 5 * math.sqrt(len(drawn))  # Standard deviations.
