"""Pictures of each kind of input and of maps show what they should."""

import io

import numpy as np
from PIL import Image
import pytest

from experiments.display import View
from scripts.attention_maps import sheet
from scripts.shared import drawing

RNG = np.random.default_rng(0)
VIEWS = {
  'image': View('image', RNG.random((8, 6, 1)), (8, 6)),
  'large': View('image', RNG.random((300, 300, 3)), (300, 300)),
  'video': View('video', RNG.random((4, 16, 16, 3)), (4, 2, 2)),
  'spectrogram': View('spectrogram', RNG.normal(size=(32, 8)), (32, 8)),
  'sound': View('sound', RNG.uniform(-1, 1, 6400), (50,)),
  'long': View('sound', RNG.uniform(-1, 1, 9600), (9600,)),
  'points': View('points', RNG.normal(size=(500, 3)), (500,)),
}


@pytest.mark.parametrize('name', VIEWS)
@pytest.mark.parametrize('count', [1, 7, 16])
def test_all_kinds_are_drawn(name, count):
  view = VIEWS[name]
  values = RNG.normal(size=(count, *view.grid))
  below = drawing.picture(view, 96)
  drawn = [
    below,
    drawing.maps(view, values, 48),
    drawing.overlay(view, values[0], 96),
  ]
  for pixels in drawn:
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.std() > 5
    assert max(pixels.shape) < 1500
  if view.kind != 'sound':
    assert drawn[2].shape == below.shape


def brightest(pixels):
  return np.unravel_index(pixels.sum(axis=-1).argmax(), pixels.shape[:2])


def test_a_map_is_bright_where_the_value_is_large():
  values = np.zeros((1, 8, 6))
  values[0, 5, 1] = 1
  line, column = brightest(drawing.maps(VIEWS['image'], values, 80))
  assert (line // 10, column // 10) == (5, 1)
  dark = View('image', np.zeros((8, 6, 1)), (8, 6))
  line, column = brightest(drawing.overlay(dark, values[0], 80))
  assert (line // 10, column // 10) == (5, 1)


def test_low_frequencies_are_below():
  values = np.zeros((1, 32, 8))
  values[0, 0, 0] = 1
  pixels = drawing.maps(VIEWS['spectrogram'], values, 64)
  line, column = brightest(pixels)
  assert line == pixels.shape[0] - 2
  assert column == 0


def test_frames_can_be_chosen():
  view = VIEWS['video']
  one = drawing.picture(view, 16, [3])
  assert (one == np.round(255 * view.content[3]).astype(np.uint8)).all()
  values = RNG.random((5, 4, 2, 2))
  assert drawing.maps(view, values, 16, [0, 2]).shape == (88, 34, 3)
  assert drawing.overlay(view, values[0], 16, [0, 2]).shape == (16, 34, 3)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_dark(bad):
  values = np.full((1, 8, 6), bad)
  values[0, 2, 2], values[0, 3, 3] = 1, 2
  line, column = brightest(drawing.maps(VIEWS['image'], values, 80))
  assert (line // 10, column // 10) == (3, 3)
  drawing.maps(VIEWS['image'], np.full((1, 8, 6), bad), 80)


def test_order_puts_elements_back():
  order = RNG.permutation(48)
  view = View('image', VIEWS['image'].content, (8, 6), order)
  values = np.arange(48.0)
  assert (view.at_layout(values[order]) == values.reshape(8, 6)).all()


def test_a_sheet_is_a_png_in_rows_or_a_column():
  panels = [('a title', np.zeros((50, 600, 3), np.uint8))] * 5
  pixels = sheet.draw(panels)
  assert pixels.shape[1] < sheet.MAX_WIDTH
  assert 2 * 50 < pixels.shape[0] < 3 * 50 + 100
  image = Image.open(io.BytesIO(drawing.png(pixels)))
  assert (np.asarray(image) == pixels).all()
  column = sheet.draw(panels, in_rows=False)
  assert column.shape[0] > 5 * 50
  assert column.shape[1] < 700
