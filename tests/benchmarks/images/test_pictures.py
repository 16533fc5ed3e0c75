"""People's own pictures come out as people see them, or are refused."""

import io
import struct
import zlib

import numpy as np
from PIL import features, Image, ImageOps
import pytest

from configs import digits, fashion_mnist, imagenet
from experiments import benchmarks
from experiments.benchmarks.images import decoding, pictures
from tests.benchmarks.images.test_decoding import (
  adobe_cmyk,
  COLOURS,
  count_refused,
  encode,
  RNG,
  with_size,
)

GREY = COLOURS[..., 0]
BLOCKS = np.kron(COLOURS[:2, :3], np.ones((16, 16, 1), np.uint8))  # 32 x 48
LOSSLESS = {
  'WEBP': {'lossless': True},
  'AVIF': {'quality': 100},
  'JPEG2000': {'irreversible': False},
}
# Of lossy formats, on blocks of one colour.
TOLERANCE = {'JPEG': 12, 'AVIF': 12}


def decode(data):
  image = pictures.decode(data)
  assert image.mode == 'RGB'
  return np.asarray(image)


def rgb(grey):
  return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def assert_shows(data, expected, file_format='PNG'):
  found = decode(data)
  assert found.shape == np.shape(expected)
  inside = np.s_[4:-4, 4:-4]  # Of the outermost blocks.
  difference = np.abs(found - np.asarray(expected, float))
  if file_format in TOLERANCE:
    assert np.median(difference[inside]) <= TOLERANCE[file_format]
  else:
    assert difference.max() == 0


def png16(samples, colour_type, extra=b''):
  """A PNG file with 16 bits for each of [H, W, channels] samples."""
  height, width = samples.shape[:2]
  rows = samples.astype('>u2').reshape(height, -1)
  chunks = [
    (
      b'IHDR',
      struct.pack('>IIBBBBB', width, height, 16, colour_type, 0, 0, 0),
    ),
    *([(b'tRNS', extra)] if extra else []),
    (b'IDAT', zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))),
    (b'IEND', b''),
  ]
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(data))
    + name
    + data
    + struct.pack('>I', zlib.crc32(name + data))
    for name, data in chunks
  )


FILES = {
  file_format: encode(BLOCKS, file_format, **LOSSLESS.get(file_format, {}))
  for file_format in (
    *('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP'),
  )
}


@pytest.mark.parametrize('file_format', FILES)
def test_formats(file_format):
  assert_shows(FILES[file_format], BLOCKS, file_format)


def test_suffixes_are_those_that_pillow_knows_of_the_formats():
  Image.init()
  for file_format, suffixes in pictures.SUFFIXES.items():
    for suffix in suffixes:
      assert Image.EXTENSION[suffix] == file_format
  task = benchmarks.create(**digits.get_config().task)
  assert set(task.file_reader.suffixes) == {
    *('.avif', '.bmp', '.gif', '.jp2', '.jpeg', '.jpg', '.pbm', '.pgm'),
    *('.png', '.ppm', '.tif', '.tiff', '.webp'),
  }


@pytest.mark.parametrize(
  'file_format', ['GIF', 'WEBP', 'PNG', 'TIFF', 'AVIF', 'MPO']
)
def test_the_first_of_several_frames_counts(file_format):
  frames = [Image.new('RGB', (64, 64), (x, 0, 0)) for x in (250, 90, 10)]
  data = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
  assert Image.open(io.BytesIO(data)).n_frames == 3
  assert np.abs(decode(data).astype(int) - (250, 0, 0)).max() <= 8


# How a camera that was turned stores an upright picture.
STORED = {
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: np.rot90(x),
  7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
  8: lambda x: np.rot90(x, -1),
}


def turned(pixels, orientation, file_format='PNG'):
  """A file that stores an upright picture with an orientation of EXIF."""
  exif = Image.Exif()
  exif[274] = orientation
  stored = np.ascontiguousarray(STORED[orientation](pixels))
  options = LOSSLESS.get(file_format, {})
  return encode(stored, file_format, exif=exif, **options)


@pytest.mark.parametrize('orientation', STORED)
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'TIFF', 'WEBP', 'AVIF'])
def test_pictures_are_turned_as_exif_says(file_format, orientation):
  data = turned(BLOCKS, orientation, file_format)
  assert_shows(data, BLOCKS, file_format)


@pytest.mark.parametrize('orientation', STORED)
@pytest.mark.parametrize('config', [digits, fashion_mnist, imagenet])
def test_tasks_see_pictures_upright(config, orientation, tmp_path):
  variant = 'tiny' if config is imagenet else ''
  task = benchmarks.create(**config.get_config(variant).task)
  pixels = np.kron(GREY[:7, :7], np.ones((4, 4), np.uint8))
  examples = []
  for i in (1, orientation):
    path = tmp_path / f'{i}.png'
    path.write_bytes(turned(pixels, i))
    ((_, record),) = task.file_reader.read([str(path)])
    examples.append(task.eval_example(record))
  np.testing.assert_array_equal(examples[0]['image'], examples[1]['image'])


def test_images_of_the_data_set_stay_as_stored():
  data = turned(BLOCKS, 6)
  config = imagenet.get_config('tiny')
  config.task.image_size = 28  # Of the short side of 32, all that is looked at.
  task = benchmarks.create(**config.task)
  record = {'name': 'x', 'jpeg': data, 'label': 0}
  stored = task.eval_example(record)['image']
  upright = task.eval_example({**record, 'is_own': True})['image']
  np.testing.assert_array_equal(stored, np.rot90(upright))
  assert (stored != upright).any()
  np.testing.assert_array_equal(
    np.asarray(decoding.decode(data)), STORED[6](BLOCKS)
  )


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize(
  'exif', [b'Exif\0\0', b'Exif\0\0II*\0\xff', b'nothing']
)
def test_damaged_metadata_costs_no_picture(exif):
  data = encode(COLOURS, exif=exif)
  assert_shows(data, COLOURS)


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('file_format', ['PNG', 'TIFF', 'I;16B', 'I'])
def test_grey_of_any_range_is_as_bright(file_format, bits):
  most = 2**bits - 1
  levels = np.linspace(0, most, 600).round().astype(np.uint16).reshape(20, 30)
  image = Image.fromarray(levels.astype('i4' if file_format == 'I' else 'u2'))
  if file_format == 'I;16B':
    big_endian = levels.astype('>u2').tobytes()
    image = Image.frombytes(file_format, (30, 20), big_endian)
  data = encode(image, file_format if file_format == 'PNG' else 'TIFF')
  assert Image.open(io.BytesIO(data)).mode in ('I', 'I;16', 'I;16B')
  expected = np.rint(levels * (255 / most))
  assert_shows(data, rgb(expected))


@pytest.mark.parametrize(
  ('most', 'bits'), [(200, 8), (1000, 10), (1024, 12), (4000, 12), (70_000, 24)]
)
def test_the_range_holds_the_largest_number(most, bits):
  numbers = np.array([[0, most // 2, most]], np.int32)
  expected = np.rint(numbers * (255 / (2**bits - 1)))
  assert_shows(encode(Image.fromarray(numbers), 'TIFF'), rgb(expected))


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32])
def test_black_stays_black(dtype):
  assert (decode(encode(np.zeros((4, 5), dtype), 'TIFF')) == 0).all()


@pytest.mark.parametrize('whole', [1, 255, 65535])
def test_floats_of_usual_ranges(whole):
  data = encode((GREY / 255 * whole).astype(np.float32), 'TIFF')
  expected = np.rint(GREY * (whole / 255) * (255 / whole))
  assert_shows(data, rgb(expected))


def test_floats_somewhat_above_1_are_no_darker():
  data = encode(np.array([[0, 0.5, 1.02]], np.float32), 'TIFF')
  assert_shows(data, rgb([[0, 125, 255]]))


@pytest.mark.parametrize(
  'numbers', [[-1000, 0, 3000], [0, np.nan, 1], [0, 1, np.inf], [0, 1, 1e10]]
)
def test_what_is_no_brightness_is_refused(numbers):
  dtype = np.int32 if min(numbers) < 0 else np.float32
  data = encode(np.array([numbers], dtype), 'TIFF')
  with pytest.raises(decoding.DamagedImageError, match='cannot be brightness'):
    decode(data)


def test_white_may_be_zero():
  levels = np.array([[0, 1000, 4095]], np.uint16)
  data = encode(levels, 'TIFF')
  entry = struct.pack('<HHI', 262, 3, 1)  # PhotometricInterpretation
  place = data.index(entry) + len(entry)
  assert data[place] == 1
  data = data[:place] + b'\0' + data[place + 1 :]
  assert_shows(data, rgb([[255, 193, 0]]))


@pytest.mark.parametrize('bits', [10, 12, 14, 16])
def test_16_bit_colours_of_any_range_are_as_bright(bits):
  colours = COLOURS.astype(np.uint16) << (bits - 8)
  colours[0, 0] = 2**bits - 1
  expected = colours / (2**bits - 1) * 255
  found = decode(png16(colours, 2))
  # Of 16 bits Pillow keeps the higher 8.
  assert np.abs(found - expected).max() <= 256 / 2**bits * 255 + 0.5
  assert found.max() == 255
  alpha = np.full((20, 30, 1), 65535)
  alpha[:10] = 0
  transparent = decode(png16(np.concatenate([colours, alpha], axis=2), 6))
  np.testing.assert_array_equal(transparent[10:], found[10:])
  assert (transparent[:10] == 255).all()


def test_16_bit_colours_of_which_nothing_is_left_are_refused():
  with pytest.raises(decoding.DamagedImageError, match='save it with 8 bits'):
    decode(png16(COLOURS.astype(np.uint16), 2))


def flattened(colours, alpha, ground=255):
  part = alpha[..., None] / 255
  return colours * part + ground * (1 - part)


@pytest.mark.parametrize('file_format', ['PNG', 'WEBP', 'TIFF'])
def test_transparent_parts_are_white(file_format):
  alpha = RNG.integers(256, size=(20, 30)).astype(np.uint8)
  alpha[:5], alpha[5:10] = 0, 255
  pixels = np.dstack([COLOURS, alpha])
  options = LOSSLESS.get(file_format, {})
  found = decode(encode(pixels, file_format, **options))
  assert np.abs(found - flattened(COLOURS, alpha)).max() <= 1
  assert (found[:5] == 255).all()
  np.testing.assert_array_equal(found[5:10], COLOURS[5:10])


def test_transparent_grey_palettes_and_colours_are_white():
  alpha = Image.fromarray((GREY > 99).astype(np.uint8) * 255)
  grey = encode(Image.merge('LA', [Image.fromarray(GREY), alpha]))
  expected = np.where(GREY > 99, GREY, 255)
  assert_shows(grey, rgb(expected))
  few = (GREY // 64).astype(np.uint8)
  palette = Image.fromarray(few).convert('P')
  palette.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90])
  colours = np.array(palette.getpalette()[:12]).reshape(4, 3)
  expected = colours[few]
  expected[few == 0] = 255
  for file_format in ('PNG', 'GIF'):
    data = encode(palette, file_format, transparency=0)
    assert_shows(data, expected)
  # A colour, or a grey, that stands for nothing.
  data = encode(COLOURS, transparency=tuple(COLOURS[3, 4].tolist()))
  expected = COLOURS.copy()
  expected[(COLOURS[3, 4] == COLOURS).all(axis=2)] = 255
  assert_shows(data, expected)
  data = encode(GREY, transparency=int(GREY[3, 4]))
  assert_shows(data, rgb(np.where(GREY[3, 4] == GREY, 255, GREY)))


def test_16_bits_may_be_transparent():
  levels = GREY.astype(np.uint16) * 257
  key = struct.pack('>H', levels[3, 4])
  assert_shows(
    png16(levels, 0, key),
    rgb(np.where(GREY[3, 4] == GREY, 255, GREY)),
  )
  colours = COLOURS.astype(np.uint16) * 257
  key = struct.pack('>HHH', *colours[3, 4])
  expected = COLOURS.copy()
  expected[3, 4] = 255
  assert_shows(png16(colours, 2, key), expected)


@pytest.mark.parametrize(('ink', 'ground'), [(250, 0), (20, 255)])
def test_a_drawing_on_nothing_is_on_a_ground_that_shows_it(ink, ground):
  alpha = np.zeros((8, 8), np.uint8)
  alpha[2:6, 3:5] = 255
  alpha[1, 3] = 128
  pixels = np.dstack([np.full((8, 8), ink, np.uint8)] * 3 + [alpha])
  found = pictures.grey_square(encode(pixels), 8)
  expected = flattened(np.full((8, 8, 1), ink), alpha, ground)[..., 0]
  assert np.abs(found - expected).max() <= 1


def test_nothing_at_all_is_white():
  data = encode(np.zeros((8, 8, 4), np.uint8))
  assert (pictures.grey_square(data, 8) == 255).all()
  assert (decode(data) == 255).all()


def test_other_colour_spaces():
  patches = np.kron(COLOURS[:2, :2], np.ones((16, 16, 1), np.uint8))
  image = Image.fromarray(patches)
  bits = image.convert('1')
  assert_shows(encode(bits, 'TIFF'), rgb(np.asarray(bits) * 255))
  data = encode(image.convert('CMYK'), 'TIFF')
  assert_shows(data, patches)
  inks = RNG.integers(256, size=(4, 4, 4)).astype(np.uint8)
  inks = inks.repeat(16, axis=1).repeat(16, axis=2)
  data = adobe_cmyk(inks)
  assert_shows(data, np.asarray(decoding.decode(data)))
  # Grey has no colour in any space: the middle one of L*a*b*.
  lab = Image.merge('LAB', [Image.new('L', (9, 9), x) for x in (137, 128, 128)])
  found = decode(encode(lab, 'TIFF'))
  assert np.abs(found.astype(int) - 128).max() <= 2


# Decoding of JPEG and PNG is tested with the data set's images.
OTHERS = sorted(FILES.keys() - {'JPEG', 'PNG'})


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('file_format', OTHERS)
def test_truncated_files_are_damaged(file_format):
  data = FILES[file_format]
  for size in (0, 1, 5, 12, 30, len(data) // 2, len(data) * 3 // 4):
    with pytest.raises(decoding.DamagedImageError, match=f'{size} bytes'):
      pictures.decode(data[:size])


@pytest.mark.filterwarnings(
  'ignore::UserWarning', 'ignore::PIL.Image.DecompressionBombWarning'
)
@pytest.mark.parametrize('file_format', OTHERS)
def test_flipped_bits_give_an_image_or_the_one_error(file_format):
  assert count_refused(decode, FILES[file_format], 100) > 0


def sized(file_format, place, form):
  """A file with another size in its header."""
  data = encode(COLOURS, file_format)
  size = struct.pack(form, 12_000, 10_000)
  return data[:place] + size + data[place + len(size) :]


VAST = {
  'PNG': with_size(encode(COLOURS), 12_000, 10_000),
  'PPM': b'P6 12000 10000 255\n' + bytes(100),
  'BMP': sized('BMP', 18, '<ii'),
  'GIF': sized('GIF', 6, '<HH'),
}


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('name', VAST)
def test_a_vast_picture_is_refused_before_it_is_decoded(name, monkeypatch):
  def transpose(*args, **kwargs):
    raise AssertionError('decoded')

  monkeypatch.setattr(ImageOps, 'exif_transpose', transpose)
  for read in (pictures.decode, lambda data: pictures.grey_square(data, 8)):
    with pytest.raises(decoding.DamagedImageError, match='12000 x 10000 pix'):
      read(VAST[name])
    with pytest.raises(AssertionError, match='decoded'):
      read(encode(COLOURS))


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (
      b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n',
      r'none of AVIF, BMP, ',
    ),
    (encode(COLOURS, 'EPS'), 'PPM, TIFF and WEBP, or its header is damaged'),
    (encode(COLOURS, 'PDF'), r"begins with b'%PDF-1\.\d"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'begins with'),
    (
      b'\0\0\0\x18ftypheic' + bytes(20),
      r'HEIC, .* phones .*: save it as JPEG\.',
    ),
  ],
)
def test_what_is_not_taken_is_said_with_what_is(data, message):
  with pytest.raises(decoding.DamagedImageError, match=message):
    pictures.decode(data)


def test_a_pillow_without_a_format_is_named(monkeypatch):
  monkeypatch.setattr(features, 'check', lambda feature: feature != 'avif')
  with pytest.raises(decoding.DamagedImageError, match=r'lacks AVIF\.$'):
    pictures.decode(b'something')
