"""Draws an input and its maps, with titles, in one picture."""

from collections.abc import Sequence
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scripts.shared import drawing
from scripts.shared.drawing import beside, INK, PAPER, under
from scripts.shared.mapper import SegmentMaps

TITLES = {'mean': 'mean attention'}  # Others have their names.
# Heights in pixels of an input and of a map, by kind; other maps are SMALL.
SIZE = {'image': 224, 'points': 224, 'video': 112}
MAP_SIZE = {'image': 112, 'points': 112, 'video': 112}
SMALL = 80
MAX_WIDTH = 2200  # Of a row, in pixels.


def panels(segment: SegmentMaps, title: str) -> list[tuple[str, np.ndarray]]:
  """Returns titles and pictures: the input, then its maps."""
  kind = segment.view.kind
  size = SIZE.get(kind, 160)
  found = [(title, drawing.picture(segment.view, size))]
  drawn = segment.drawn(size, MAP_SIZE.get(kind, SMALL))
  for quantity, where, pixels in drawn:
    found.append((f'{where}: {TITLES.get(quantity, quantity)}', pixels))
  return found


def draw(
  panels: Sequence[tuple[str, np.ndarray]], in_rows: bool = True
) -> np.ndarray:
  """Draws titled pictures in rows or, to compare them, in a column."""
  font = ImageFont.load_default(15)
  margin, title = 14, 24
  rows: list[list[np.ndarray]] = [[]]
  width = 0
  for text, pixels in panels:
    wide = max(pixels.shape[1], math.ceil(font.getlength(text)))
    panel = np.full((pixels.shape[0] + title, wide, 3), PAPER, np.uint8)
    panel[title:, : pixels.shape[1]] = pixels
    image = Image.fromarray(panel)
    ImageDraw.Draw(image).text((0, 0), text, (INK,) * 3, font)
    if rows[-1] and (not in_rows or width + wide + margin > MAX_WIDTH):
      rows.append([])
      width = 0
    rows[-1].append(np.asarray(image))
    width += wide + margin
  drawn = under([beside(row, gap=margin) for row in rows], gap=margin)
  edges = ((margin, margin), (margin, margin), (0, 0))
  return np.pad(drawn, edges, constant_values=PAPER)
