"""Decoding never fails in an unforeseen way; crops are where they should be."""

import io
import struct
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageFile
import pytest

from experiments.benchmarks.images import decoding

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(256, size=(20, 30, 3), dtype=np.uint8)


def encode(image, file_format='PNG', **options):
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  stream = io.BytesIO()
  image.save(stream, file_format, **options)
  return stream.getvalue()


def decode(data):
  image = decoding.decode(data)
  assert image.mode == 'RGB'
  return np.asarray(image)


def test_png_is_exact_whatever_its_name():
  np.testing.assert_array_equal(decode(encode(COLOURS)), COLOURS)


def test_transparency_is_dropped():
  alpha = RNG.integers(256, size=(20, 30, 1), dtype=np.uint8)
  data = encode(np.concatenate([COLOURS, alpha], axis=2))
  np.testing.assert_array_equal(decode(data), COLOURS)


@pytest.mark.parametrize('transparency', [None, 3, bytes(range(16))])
def test_palette(transparency):
  image = Image.fromarray(COLOURS).quantize(16)
  palette = np.array(image.getpalette()).reshape(-1, 3)
  options = {} if transparency is None else {'transparency': transparency}
  np.testing.assert_array_equal(
    decode(encode(image, **options)), palette[np.asarray(image)]
  )


def test_grey_has_three_equal_channels():
  grey = COLOURS[..., 0]
  expected = np.repeat(grey[..., None], 3, axis=2)
  np.testing.assert_array_equal(decode(encode(grey)), expected)
  decoded = decode(encode(grey, 'JPEG', quality=100))
  assert (decoded == decoded[..., :1]).all()
  # Each of 64 cosines is off by half a level at most; rarely by all together.
  assert np.abs(decoded.astype(int) - expected).max() <= 3


def test_sixteen_bits_keep_the_higher_eight():
  deep = RNG.integers(2**16, size=(20, 30), dtype=np.uint16)
  expected = np.repeat((deep // 256)[..., None], 3, axis=2)
  np.testing.assert_array_equal(decode(encode(deep)), expected)


def segments(data):
  """Markers and contents of a JPEG; the last one is the scan, to the end."""
  result, place = {}, 2
  while True:
    marker, length = struct.unpack_from('>HH', data, place)
    content = data[place + 4 : place + 2 + length]
    place += 2 + length
    if marker == 0xFFDA:
      return {**result, marker: data[place:-2]}
    result.setdefault(marker, []).append(content)


def segment(marker, content):
  return struct.pack('>HH', marker, len(content) + 2) + content


def adobe_cmyk(inks):
  """A CMYK JPEG by Adobe's convention: what it stores is 255 - ink.

  It is made of four grey JPEGs, a scan for each, because Pillow, which is
  under test, would invert on both ways.

  Args:
    inks: [4, H, W], 0 to 255, none to full.
  """
  planes = [segments(encode(255 - ink, 'JPEG', quality=95)) for ink in inks]
  frame = planes[0][0xFFC0][0][:5] + b'\4'  # Precision, height, width.
  frame += b''.join(bytes([i, 0x11, 0]) for i in range(1, 5))
  parts = [b'\xff\xd8', segment(0xFFEE, b'Adobe\0\x64\0\0\0\0\0')]
  parts += [segment(0xFFDB, x) for x in planes[0][0xFFDB]]
  parts += [segment(0xFFC0, frame)]
  parts += [segment(0xFFC4, x) for x in planes[0][0xFFC4]]
  for i, plane in enumerate(planes, 1):
    parts += [segment(0xFFDA, bytes([1, i, 0, 0, 63, 0])), plane[0xFFDA]]
  return b''.join([*parts, b'\xff\xd9'])


def test_cmyk_has_the_right_colours():
  # 64 patches of 16 x 16 pixels, each of one mixture of inks.
  inks = RNG.integers(256, size=(4, 8, 8)).astype(np.uint8)
  inks = inks.repeat(16, axis=1).repeat(16, axis=2)
  data = adobe_cmyk(inks)
  assert Image.open(io.BytesIO(data)).mode == 'CMYK'
  light = 1 - inks / 255
  expected = 255 * np.moveaxis(light[:3] * light[3], 0, 2)
  # Two factors, each off by a level at most: flat patches code well.
  assert np.abs(decode(data) - expected).max() <= 3


FILES = {
  'jpeg': encode(COLOURS, 'JPEG'),
  'progressive': encode(COLOURS, 'JPEG', progressive=True),
  'cmyk': encode(Image.fromarray(COLOURS).convert('CMYK'), 'JPEG'),
  'png': encode(COLOURS),
  'palette': encode(Image.fromarray(COLOURS).quantize(16)),
}


@pytest.mark.parametrize('name', FILES)
def test_truncated_files_are_damaged(name):
  data = FILES[name]
  whole = decode(data)
  # The last 20 bytes of these PNGs are check sums and the mark of the end:
  # Pillow has all pixels without them.
  end = len(data) - (20 if data.startswith(b'\x89PNG') else 0)
  for size in range(end):
    with pytest.raises(decoding.DamagedImageError, match=f'{size} bytes'):
      decoding.decode(data[:size])
  for size in range(end, len(data)):
    np.testing.assert_array_equal(decode(data[:size]), whole)


def count_refused(decode, data, count):
  """Decodes copies of a file with flipped bits; counts those refused."""
  rng = np.random.default_rng(1)
  refused = 0
  for i in range(count):
    damaged = bytearray(data)
    # Headers are short; half of the damage shall meet them.
    end = min(60, len(data)) if i % 2 else len(data)
    for place in rng.integers(end, size=rng.integers(1, 4)):
      damaged[place] ^= 1 << rng.integers(8)
    try:
      decode(bytes(damaged))
    except decoding.DamagedImageError:
      refused += 1
  return refused


# Pillow warns of some damaged metadata and goes on.
@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('name', FILES)
def test_flipped_bits_give_an_image_or_the_one_error(name):
  assert count_refused(decode, FILES[name], 300) > 0


@pytest.mark.parametrize('size', [0, 1, 7, 100, 5000])
@pytest.mark.parametrize('start', [b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'])
def test_random_bytes_are_damaged(start, size):
  with pytest.raises(decoding.DamagedImageError, match=r'\(\d+ bytes\)'):
    decoding.decode(start + RNG.bytes(size))


@pytest.mark.parametrize('file_format', ['GIF', 'BMP', 'TIFF'])
def test_other_formats_are_refused(file_format):
  with pytest.raises(decoding.DamagedImageError, match='neither JPEG nor PNG'):
    decoding.decode(encode(COLOURS, file_format))


def with_size(data, width, height):
  """The file, with another size in its header."""
  if data.startswith(b'\x89PNG'):
    header = b'IHDR' + struct.pack('>II', width, height) + data[24:29]
    crc = struct.pack('>I', zlib.crc32(header))
    return data[:12] + header + crc + data[33:]
  place = data.index(b'\xff\xc0') + 5
  return data[:place] + struct.pack('>HH', height, width) + data[place + 4 :]


# Pillow warns itself somewhat above our limit.
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('name', ['jpeg', 'png'])
def test_a_vast_image_is_refused_before_it_is_decoded(name, monkeypatch):
  def load(self):
    raise AssertionError('decoded')

  decoding.decode(with_size(FILES[name], 30, 20))
  monkeypatch.setattr(ImageFile.ImageFile, 'load', load)
  for size in ((60_000, 60_000), (12_000, 10_000), (10_000, 8_001)):
    with pytest.raises(decoding.DamagedImageError, match='pixels'):
      decoding.decode(with_size(FILES[name], *size))
  with pytest.raises(AssertionError, match='decoded'):
    decoding.decode(with_size(FILES[name], 10_000, 8_000))


sides = st.integers(1, 50) | st.integers(1, 5000)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=300, deadline=None)
@given(sides, sides, seeds)
def test_inception_boxes_have_area_and_aspect_in_range(width, height, seed):
  rng = np.random.default_rng(seed)
  left, top, right, bottom = decoding.inception_box(width, height, rng)
  w, h = right - left, bottom - top
  assert 0 <= left < right <= width
  assert 0 <= top < bottom <= height
  # The sides are rounded.
  assert (w - 0.5) / (h + 0.5) <= 4 / 3
  assert (w + 0.5) / (h - 0.5) >= 3 / 4
  fallback = w == min(width, 4 * height // 3) and h == min(
    height, 4 * width // 3
  )
  assert fallback or (w + 0.5) * (h + 0.5) >= 0.08 * width * height


def test_inception_boxes_cover_the_range():
  rng = np.random.default_rng(0)
  boxes = [decoding.inception_box(1000, 1000, rng) for _ in range(3000)]
  left, top, right, bottom = np.array(boxes).T
  areas = (right - left) * (bottom - top) / 1e6
  aspects = (right - left) / (bottom - top)
  assert areas.min() < 0.09
  assert areas.max() > 0.97
  assert aspects.min() < 0.76
  assert aspects.max() > 1.32
  assert abs(np.log(aspects).mean()) < 0.02  # Three standard errors: 0.009.
  # Places are symmetric: as much is left on one side as on the other.
  assert abs((left - (1000 - right)).mean()) < 30  # As above: 21.
  assert min(left.min(), top.min()) == 0
  assert max(right.max(), bottom.max()) == 1000


@settings(max_examples=300, deadline=None)
@given(sides, sides, seeds)
def test_distorted_boxes_have_area_and_aspect_in_range(width, height, seed):
  rng = np.random.default_rng(seed)
  box = decoding.distorted_box(width, height, rng)
  left, top, right, bottom = box
  w, h = right - left, bottom - top
  assert all(isinstance(x, int) for x in box)
  assert 0 <= left < right <= width
  assert 0 <= top < bottom <= height
  if box != decoding.central_box(width, height, whole_pixels=True):
    assert 0.1 * width * height <= w * h < width * height
    assert (w - 0.5) / h <= 4 / 3  # The width is rounded.
    assert (w + 0.5) / h >= 3 / 4
    assert right < width or w == width
    assert bottom < height or h == height


def areas_by_the_rule(width, height):
  """Shares of the image and their probabilities: all heights for each aspect.

  The aspects are so many that halving their distance changes no digit below.
  """
  shares, probabilities = [], []
  for aspect in 3 / 4 + (np.arange(2000) + 0.5) / 2000 * (4 / 3 - 3 / 4):
    heights = np.arange(1, height + 1)
    fits = heights[np.rint(heights * aspect) <= width]
    most = min(fits[-1], round((width * height / aspect) ** 0.5))
    least = round((0.08 * width * height / aspect) ** 0.5)
    heights = np.arange(least, most + 1)
    shares.append(np.rint(heights * aspect) * heights / (width * height))
    probabilities.append(np.full(len(heights), 1 / len(heights)))
  shares, probabilities = map(np.concatenate, (shares, probabilities))
  probabilities *= shares >= 0.1  # Others are drawn again.
  return shares, probabilities / probabilities.sum()


@pytest.mark.parametrize(
  ('size', 'mean', 'small'),
  [((500, 375), 0.388, 0.330), ((375, 500), 0.371, 0.345)],
)
def test_distorted_boxes_are_small_as_often_as_the_rule_says(size, mean, small):
  """Twice as often below a quarter of the image as boxes uniform in area."""
  shares, probabilities = areas_by_the_rule(*size)
  assert probabilities @ shares == pytest.approx(mean, abs=5e-4)
  assert probabilities @ (shares < 0.25) == pytest.approx(small, abs=5e-4)
  rng = np.random.default_rng(0)
  boxes = np.array([decoding.distorted_box(*size, rng) for _ in range(20_000)])
  w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  drawn = w * h / (size[0] * size[1])
  # Four standard errors are 0.007 and 0.013.
  assert drawn.mean() == pytest.approx(mean, abs=0.007)
  assert np.mean(drawn < 0.25) == pytest.approx(small, abs=0.013)
  # And all of the distribution: four times 0.5/√20,000 at most.
  for share in np.linspace(0.15, 0.95, 9):
    expected = probabilities @ (shares < share)
    assert np.mean(drawn < share) == pytest.approx(expected, abs=0.0142)
  # The aspect is uniform, not its logarithm; 3 + 4 standard errors.
  middle = np.mean(w / h > (3 / 4 + 4 / 3) / 2)
  assert middle == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize('size', [(1000, 60), (60, 1000), (1, 1), (1, 40)])
def test_where_no_distorted_box_fits_it_is_the_central_square(size):
  for seed in range(20):
    box = decoding.distorted_box(*size, np.random.default_rng(seed))
    assert box == decoding.central_box(*size, whole_pixels=True)


@pytest.mark.parametrize(
  ('size', 'whole', 'exact'),
  [
    # By hand: 0.875 x 375 is 328.125; 172 and 47 pixels are left.
    ((500, 375), (86, 24, 414, 352), (85.9375, 23.4375, 414.0625, 351.5625)),
    ((256, 256), (16, 16, 240, 240), (16, 16, 240, 240)),
    ((100, 90), (11, 6, 89, 84), (10.625, 5.625, 89.375, 84.375)),
    ((1, 1), (0, 0, 1, 1), (0.0625, 0.0625, 0.9375, 0.9375)),
  ],
)
def test_evaluation_crops_whole_pixels_or_exactly_seven_eighths(
  size, whole, exact
):
  assert decoding.central_box(*size, whole_pixels=True) == whole
  assert decoding.central_box(*size) == exact


def ramps(width, height):
  """Red is the column, green the row, each up to 255."""
  y, x = np.mgrid[:height, :width].astype(np.uint8)
  return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2))


def assert_shows(result, size, box, width, height):
  """A ramp, resized, is a ramp; but where the filter meets the image's end."""
  assert result.size == (size, size)
  left, top, right, bottom = box
  pixels = np.asarray(result)
  for line, start, stop, length in (
    (pixels[size // 2, :, 0], left, right, width),
    (pixels[:, size // 2, 1], top, bottom, height),
  ):
    scale = (stop - start) / size
    places = start + (np.arange(size) + 0.5) * scale
    reach = 2 * max(scale, 1) + 1  # Of the bicubic filter.
    inner = (places > reach) & (places < length - reach)
    assert inner.any()
    # Half a level of rounding; pixel i has its centre at i + 1/2.
    assert np.abs(line - (places - 0.5))[inner].max() < 0.51


@pytest.mark.parametrize('seed', range(20))
def test_crop_shows_an_inception_box(seed):
  box = decoding.inception_box(240, 180, np.random.default_rng(seed))
  result = decoding.crop(ramps(240, 180), 32, box)
  assert_shows(result, 32, box, 240, 180)


@pytest.mark.parametrize('size', [(256, 192), (192, 256), (250, 101)])
def test_crop_shows_the_central_square(size):
  width, height = size
  side = min(size) * 224 / 256
  box = ((width - side) / 2, (height - side) / 2)
  box += ((width + side) / 2, (height + side) / 2)
  central = decoding.central_box(width, height)
  result = decoding.crop(ramps(width, height), 28, central)
  assert_shows(result, 28, box, width, height)


@pytest.mark.parametrize('size', [(1, 1), (200, 1), (1, 200), (2, 3)])
def test_narrow_images_can_be_cropped(size):
  rng = np.random.default_rng(0)
  image = Image.new('RGB', size, (10, 20, 30))
  for box in (
    decoding.central_box(*size),
    decoding.inception_box(*size, rng),
    decoding.distorted_box(*size, rng),
  ):
    result = decoding.crop(image, 8, box)
    assert result.getcolors() == [(64, (10, 20, 30))]


def test_half_of_the_images_are_flipped():
  rng, image = np.random.default_rng(0), ramps(3, 2)
  results = [decoding.random_flip(image, rng).tobytes() for _ in range(1000)]
  same, mirrored = (
    results.count(np.ascontiguousarray(pixels).tobytes())
    for pixels in (np.asarray(image), np.asarray(image)[:, ::-1])
  )
  assert same + mirrored == 1000
  assert 420 < same < 580  # Five standard deviations.
