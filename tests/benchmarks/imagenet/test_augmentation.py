"""RandAugment's operations against independent statements of what they do."""

import collections
import math

import numpy as np
from PIL import Image
import pytest

from experiments.benchmarks.imagenet import randaugment
from tests.benchmarks.imagenet.randaugment_reference import REFERENCES

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(256, size=(24, 32, 3), dtype=np.uint8)
LARGE = RNG.integers(256, size=(120, 160, 3), dtype=np.uint8)
IMAGES = {
  'colours': COLOURS,
  # Few levels, unlike in each channel: much for histograms to do.
  'dull': (COLOURS // [8, 16, 64] + [40, 100, 250]).astype(np.uint8),
  'constant': np.full((5, 7, 3), [30, 128, 200], np.uint8),
  'black': np.zeros((4, 4, 3), np.uint8),
  'row': COLOURS[:1],
  'pixel': COLOURS[:1, :1],
}
ALL = [(kind, name) for kind, names in REFERENCES.items() for name in names]


def apply(kind, name, pixels, magnitude, sign=1, seed=0):
  image = Image.fromarray(pixels)
  operation = randaugment.LISTS[kind][name]
  rng = np.random.default_rng(seed)
  result = operation(image, magnitude / 10, sign, rng)
  np.testing.assert_array_equal(np.asarray(image), pixels)  # Not in place.
  assert (result.mode, result.size) == (image.mode, image.size)
  return np.asarray(result)


def test_the_lists_are_those_of_the_released_code_and_of_the_paper():
  assert [*randaugment.PERCEIVER_IO] == [
    *('AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize'),
    *('Color', 'Contrast', 'Brightness', 'Sharpness', 'ShearX', 'ShearY'),
    *('TranslateX', 'TranslateY', 'Cutout', 'SolarizeAdd'),
  ]
  assert len(randaugment.RANDAUGMENT) == 14
  for kind, operations in randaugment.LISTS.items():
    assert {*operations} - {'Cutout'} == {*REFERENCES[kind]}


@pytest.mark.parametrize('image', IMAGES)
@pytest.mark.parametrize(('kind', 'name'), ALL)
def test_operation_is_as_defined(kind, name, image):
  pixels = IMAGES[image]
  for magnitude in range(11):
    for sign in (-1, 1):
      result = apply(kind, name, pixels, magnitude, sign)
      references = REFERENCES[kind][name](pixels.astype(int), magnitude, sign)
      right = np.any([result == x for x in references], axis=0)
      assert right.all(), (magnitude, sign, np.argwhere(~right)[0])


@pytest.mark.parametrize(
  ('name', 'magnitude', 'before', 'after'),
  [
    # By hand, at the magnitude of the configs and at another one.
    ('Invert', 5, [0, 100, 255], [255, 155, 0]),
    ('Posterize', 5, [63, 64, 255], [0, 64, 192]),  # 2 bits.
    ('Solarize', 5, [127, 128, 255], [127, 127, 0]),
    ('SolarizeAdd', 5, [0, 127, 128], [55, 182, 128]),
    ('SolarizeAdd', 10, [0, 127, 128], [110, 237, 128]),
    ('Brightness', 10, [0, 100, 200], [0, 190, 255]),
    ('Color', 5, [1, 2, 3], [1, 2, 3]),
  ],
)
def test_levels_by_hand(name, magnitude, before, after):
  result = apply('perceiver_io', name, np.uint8([[before]]), magnitude)
  assert result.tolist() == [[after]]


@pytest.mark.parametrize(
  'name', ['Color', 'Contrast', 'Brightness', 'Sharpness']
)
def test_enhancements_change_nothing_at_five(name):
  kind = 'perceiver_io'
  np.testing.assert_array_equal(apply(kind, name, COLOURS, 5), COLOURS)
  assert (apply(kind, name, COLOURS, 4) != apply(kind, name, COLOURS, 6)).any()


@pytest.mark.parametrize(
  ('kind', 'side', 'reach'),
  [
    ('perceiver_io', 224, 100),
    ('perceiver_io', 336, 100),
    ('randaugment', 224, 100),
    ('randaugment', 336, 150),
  ],
)
@pytest.mark.parametrize(
  ('name', 'axis'), [('TranslateX', 1), ('TranslateY', 0)]
)
def test_translation_is_so_many_pixels_at_most(kind, side, reach, name, axis):
  pixels = RNG.integers(256, size=(side, side, 3), dtype=np.uint8)
  moved = np.moveaxis(apply(kind, name, pixels, 10), axis, 0)
  rest = side - reach
  np.testing.assert_array_equal(
    moved[:rest], np.moveaxis(pixels, axis, 0)[reach:]
  )
  assert (moved[rest:] == 128).all()


def cut(pixels, x, y, reach):
  """Greys `reach` pixels left of and above a centre, and right and below."""
  result = pixels.copy()
  result[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach] = 128
  return result


def test_cutout_greys_a_square_around_a_uniform_centre():
  pixels = RNG.integers(128, size=(9, 12, 3), dtype=np.uint8)
  places = {  # 4 pixels at magnitude 1.
    cut(pixels, x, y, 4).tobytes(): (x, y) for x in range(12) for y in range(9)
  }
  assert len(places) == 108
  found = collections.Counter(
    places[apply('perceiver_io', 'Cutout', pixels, 1, seed=seed).tobytes()]
    for seed in range(50 * 108)
  )
  chi_square = sum((found[place] - 50) ** 2 / 50 for place in places.values())
  assert chi_square < 158  # The 99.9 % quantile with 107 degrees of freedom.


def test_cutout_is_forty_pixels_wide_at_five():
  black = np.zeros((300, 400, 3), np.uint8)
  areas = [
    (apply('perceiver_io', 'Cutout', black, 5, seed=seed)[..., 0] == 128).sum()
    for seed in range(50)
  ]
  assert max(areas) == 40 * 40  # Others are cut off at a side.


def augment(seed, kind='perceiver_io', num_layers=4, magnitude=7):
  image = Image.fromarray(LARGE)
  rng = np.random.default_rng(seed)
  return randaugment.rand_augment(
    image, rng, num_layers, magnitude, randaugment.LISTS[kind]
  ).tobytes()


@pytest.mark.parametrize('kind', REFERENCES)
def test_the_seed_decides(kind):
  results = [augment(seed, kind) for seed in range(20)]
  assert results == [augment(seed, kind) for seed in range(20)]
  assert len(set(results)) > 15  # Some are all grey or black.
  assert augment(0, kind, num_layers=0) == LARGE.tobytes()


@pytest.mark.parametrize(
  ('kind', 'share'), [('perceiver_io', 4 / 16), ('randaugment', 5 / 14)]
)
def test_a_quarter_of_the_draws_do_nothing_at_five(kind, share):
  rng, image = np.random.default_rng(0), Image.fromarray(COLOURS)
  draws = 10_000
  unchanged = sum(
    randaugment.rand_augment(image, rng, 1, 5.0, randaugment.LISTS[kind])
    is image
    for _ in range(draws)
  )
  error = math.sqrt(share * (1 - share) / draws)
  assert abs(unchanged / draws - share) < 4 * error


def test_layers_are_drawn_uniformly_and_independently():
  calls = []

  def recorder(name):
    def record(image, m, sign, rng):
      calls.append((name, m, sign))
      return image

    return record

  names = [*randaugment.PERCEIVER_IO]
  operations = {name: recorder(name) for name in names}
  rng, image = np.random.default_rng(0), Image.new('RGB', (1, 1))
  runs = 50 * 16**2
  for _ in range(runs):
    randaugment.rand_augment(image, rng, 2, 3, operations)
  drawn, magnitudes, signs = zip(*calls, strict=True)
  assert len(calls) == 2 * runs
  assert set(magnitudes) == {0.3}
  pairs = collections.Counter(zip(drawn[::2], drawn[1::2], strict=True))
  chi_square = sum((pairs[a, b] - 50) ** 2 / 50 for a in names for b in names)
  assert chi_square < 330  # The 99.9 % quantile with 255 degrees of freedom.
  for name in names:
    of_name = [s for n, s in zip(drawn, signs, strict=True) if n == name]
    assert set(of_name) == {-1, 1}
    assert abs(sum(of_name)) < 5 * math.sqrt(len(of_name))  # Deviations.
