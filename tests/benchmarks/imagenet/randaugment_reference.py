"""RandAugment's operations as their definitions state them, in NumPy.

A reference takes pixels [H, W, 3] as integers, the magnitude and the sign. It
returns all arrays that are right; they differ where rounding decides.
"""

import math

import numpy as np


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


def solarize_add(p, m, s):
  return [np.where(p < 128, np.minimum(p + 11 * m, 255), p)]


def translation(axis, per_unit):
  """Moves by `per_unit(side)` pixels at most along an axis: 0 is x, 1 is y."""

  def inverse(x, y, w, h, m):
    point = [x, y]
    point[axis] = point[axis] + m * per_unit((w, h)[axis])
    return point

  return geometric(inverse)


COMMON = {
  'AutoContrast': auto_contrast,
  'Equalize': unary(equalize),
  'Rotate': geometric(rotation),
  'Posterize': posterize,
  'Solarize': lambda p, m, s: [np.where(p >= 256 * m // 10, 255 - p, p)],
  'Color': color,
  'Contrast': contrast,
  'Brightness': lambda p, m, s: blend(np.zeros_like(p), p, m),
  'Sharpness': sharpness,
  'ShearX': geometric(lambda x, y, w, h, m: (x + 0.3 * m * y, y)),
  'ShearY': geometric(lambda x, y, w, h, m: (x, y + 0.3 * m * x)),
}
REFERENCES = {
  'perceiver_io': {
    **COMMON,
    'Invert': unary(lambda p: 255 - p),
    'TranslateX': translation(0, lambda side: 100),
    'TranslateY': translation(1, lambda side: 100),
    'SolarizeAdd': solarize_add,
  },
  'randaugment': {
    **COMMON,
    'Identity': unary(lambda p: p),
    'TranslateX': translation(0, lambda side: side / 2.24),
    'TranslateY': translation(1, lambda side: side / 2.24),
  },
}
