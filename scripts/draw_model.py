"""Draws the model for the README: the paper's Figure 1, with its numbers.

  python -m scripts.draw_model --output=docs/figures/model.svg

The SVG has a light and a dark look, and needs no other font, script or file.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
import math
import os
from xml.sax import saxutils

from absl import app
from ml_collections import ConfigDict

from configs import imagenet
from experiments import path_flags
from scripts.shared import command

WIDTH, HEIGHT = 960, 486
# Each of the three sets of weights has a colour; boxes of one colour share it.
STYLE = """
  text { font-family: -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif;
    font-size: 20px; text-anchor: middle; fill: #24292f }
  .name { font-size: 21px; font-weight: 600 }
  .small { font-size: 19px; fill: #57606a }
  .start { text-anchor: start }
  .line { stroke: #57606a; stroke-width: 2.5; fill: none }
  .head, .dots { fill: #57606a }
  .cell { fill: #8b949e }
  .learned { fill: #7a4fd0 }
  .first { stroke: #bf7b00; fill: #fff3d6 }
  .shared { stroke: #0b7f86; fill: #dbf4f4 }
  .latent { stroke: #7a4fd0; fill: #eee6ff }
  .plain { stroke: #8b949e; fill: #f6f8fa }
  rect { stroke-width: 2.5 }
  text.first { fill: #8f5a00; stroke: none }
  text.shared { fill: #08666c; stroke: none }
  text.latent { fill: #6338b8; stroke: none }
  path.shared { fill: none; stroke-width: 2.5 }
  .p0 { fill: #9fd3e6 } .p1 { fill: #f2b134 } .p2 { fill: #6c8cab }
  .p3 { fill: #83b366 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #a5adb8 }
    .line { stroke: #8b949e }
    .head, .dots { fill: #8b949e }
    .first { stroke: #d99a22; fill: #3a2a08 }
    .shared { stroke: #2ba8ae; fill: #0a3336 }
    .latent { stroke: #a583f0; fill: #2a1f4a }
    .plain { stroke: #6e7681; fill: #161b22 }
    text.first { fill: #f0bd5c }
    text.shared { fill: #5fd0d5 }
    text.latent { fill: #c4adfa }
    .p0 { fill: #62a9c2 } .p2 { fill: #456581 } .p3 { fill: #5f8f48 }
    .learned { fill: #a583f0 }
  }
"""
# The pixels of a small photo: sky, sun, hills and meadow.
PHOTO = (
  '0000000000',
  '0000000110',
  '0000001111',
  '0000001111',
  '0020000110',
  '0222000000',
  '2222200022',
  '2222222222',
  '3322222333',
  '3333333333',
)
LEVELS = 5  # The number of shades of the position features.
ROW = 132  # The y of the latents' way from left to right.
BOX = 136  # The height of boxes.
BOTTOM = ROW + BOX / 2
STRIP = (200, 324, 744, 80)  # The byte array: left, top, width and height.


def draw(config: ConfigDict) -> str:
  """Returns an SVG of a Perceiver on images, with Fourier features.

  `config` has the paper's model, as from `configs.imagenet`.
  """
  model, task = config.model, config.task
  num_pixels, position_channels = _sizes(task)
  description = (
    f'A byte array of {num_pixels:,} × {3 + position_channels} gives the keys'
    f' and values of {model.num_cross_attends} cross-attends;'
    f' {model.num_latents} latents of {model.latent_channels:,} channels give'
    ' the queries.'
    f' A latent Transformer of {model.num_self_attends} self-attends follows'
    ' each. The first cross-attend has its own weights, the others share one'
    f' set, and so do the {model.num_latent_transformers} latent Transformers.'
    f' The mean over the latents gives the {task.num_classes:,} logits.'
  )
  parts = [
    '<title id="title">The Perceiver</title>',
    f'<desc id="desc">{saxutils.escape(description)}</desc>',
    f'<style>{STYLE}</style>',
    '<defs><marker id="head" markerWidth="9" markerHeight="10" refX="8"'
    ' refY="5" orient="auto" markerUnits="userSpaceOnUse"><path class="head"'
    ' d="M0 0L9 5L0 10z"/></marker></defs>',
    *_way_of_the_latents(model, task),
    *_what_is_shared(model),
    *_input(task),
  ]
  body = '\n'.join(parts)
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}"'
    f' height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
    f' aria-labelledby="title desc">\n{body}\n</svg>\n'
  )


def _way_of_the_latents(model: ConfigDict, task: ConfigDict) -> list[str]:
  """Draws the latents' way from left to right, at `ROW`."""
  latents = f'{model.num_latents:,} × {model.latent_channels:,}'
  return [
    *_latent_array(38, ROW - 52),
    _text(76, ROW + 83, 'latent array', 'name'),
    _text(76, ROW + 110, 'N × D'),
    _text(76, ROW + 135, latents, 'small'),
    _arrow(118, ROW, 160, ROW),
    _text(137, ROW - 12, 'Q'),
    _arrow(272, ROW, 300, ROW),
    _arrow(460, ROW, 502, ROW),
    _text(479, ROW - 12, 'Q'),
    _arrow(614, ROW, 642, ROW),
    _arrow(846, ROW, 866, ROW),
    f'<circle class="dots" cx="812" cy="{ROW}" r="3.5"/>',
    f'<circle class="dots" cx="825" cy="{ROW}" r="3.5"/>',
    f'<circle class="dots" cx="838" cy="{ROW}" r="3.5"/>',
    *_box(160, 112, 'first', ('Cross-', 'attend'), 'O(MN)'),
    *_box(300, 160, 'latent', ('Latent', 'Transformer'), 'O(N²)'),
    *_box(502, 112, 'shared', ('Cross-', 'attend'), 'O(MN)'),
    *_box(642, 160, 'latent', ('Latent', 'Transformer'), 'O(N²)'),
    *_box(866, 82, 'plain', ('mean',), 'over N'),
    _arrow(907, BOTTOM + 4, 907, BOTTOM + 42),
    _text(907, BOTTOM + 68, 'logits', 'name'),
    _text(907, BOTTOM + 94, f'{task.num_classes:,}', 'small'),
  ]


def _what_is_shared(model: ConfigDict) -> list[str]:
  repeats = model.num_cross_attends - 1
  transformers = f'{model.num_latent_transformers} × {model.num_self_attends}'
  return [
    _text(216, ROW - 82, 'own weights', 'first'),
    f'<path class="shared" d="M502 {ROW - 78}v-12h{844 - 502}v12"/>',
    _text(673, ROW - 102, f'{repeats} times, weights shared', 'shared'),
    _text(380, ROW + 96, f'{transformers} self-attends,', 'latent'),
    _text(380, ROW + 122, 'weights shared', 'latent'),
  ]


def _input(task: ConfigDict) -> list[str]:
  """Draws the photo and the byte array, which all cross-attends see."""
  num_pixels, position_channels = _sizes(task)
  channels = (
    f'C = {3 + position_channels}: RGB + {position_channels} Fourier position'
    ' features'
  )
  return [
    *_photo(27, STRIP[1] - 10, 10),
    _arrow(138, STRIP[1] + 40, STRIP[0] - 8, STRIP[1] + 40),
    *_byte_array(),
    _arrow(216, STRIP[1] - 8, 216, BOTTOM + 4),
    _text(244, BOTTOM + 60, 'K, V'),
    _arrow(558, STRIP[1] - 8, 558, BOTTOM + 4),
    _text(586, BOTTOM + 60, 'K, V'),
    _text(76, STRIP[1] + 118, f'{task.image_size} × {task.image_size}'),
    _text(76, STRIP[1] + 146, 'pixels', 'small'),
    _text(STRIP[0], STRIP[1] + 118, 'byte array, M × C', 'name start'),
    _text(STRIP[0], STRIP[1] + 146, f'M = {num_pixels:,}', 'start'),
    _text(STRIP[0] + 150, STRIP[1] + 146, channels, 'small start'),
  ]


def _sizes(task: ConfigDict) -> tuple[int, int]:
  """Returns M, and C without RGB: position, sines and cosines on both axes."""
  return task.image_size**2, 2 * (2 * task.num_bands + 1)


def _text(x: float, y: float, text: str, style: str = '') -> str:
  attribute = f' class="{style}"' if style else ''
  return f'<text{attribute} x="{x:g}" y="{y:g}">{saxutils.escape(text)}</text>'


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
  return (
    f'<path class="line" marker-end="url(#head)"'
    f' d="M{x0:g} {y0:g}L{x1:g} {y1:g}"/>'
  )


def _box(
  left: float, width: float, style: str, name: Sequence[str], note: str
) -> list[str]:
  """Draws a box with a name in lines and a note below."""
  middle = left + width / 2
  top = ROW - 28 * len(name) / 2 + 7
  return [
    f'<rect class="{style}" x="{left}" y="{ROW - BOX / 2:g}" width="{width}"'
    f' height="{BOX}" rx="12"/>',
    *(_text(middle, top + 28 * i, x, 'name') for i, x in enumerate(name)),
    _text(middle, top + 28 * len(name) + 3, note),
  ]


def _cells(
  shades: Iterable[tuple[str, float, float]], width: float, height: float
) -> list[str]:
  """Draws cells at (attributes, left, top); equal attributes share a path."""
  paths: dict[str, list[str]] = collections.defaultdict(list)
  for look, x, y in shades:
    paths[look].append(f'M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z')
  return [
    f'<path {look} d="{"".join(cells)}"/>'
    for look, cells in sorted(paths.items())
  ]


def _look(style: str, level: int) -> str:
  """Returns attributes of a cell: the shade is one of `LEVELS`."""
  return f'class="{style}" opacity="{0.2 + 0.8 * level / (LEVELS - 1):g}"'


def _latent_array(left: float, top: float) -> list[str]:
  """Draws learned numbers: irregular shades, the same each time."""
  cells = []
  for i in range(6):
    for j in range(0, 104, 13):
      level = (7 * i * i + 5 * j * j + 3 * i * j) % LEVELS
      cells.append((_look('learned', level), left + 13 * i, top + j))
  return _cells(cells, 11.5, 11.5)


def _photo(left: float, top: float, size: float) -> list[str]:
  cells = [
    (f'class="p{kind}"', left + size * i, top + size * j)
    for j, line in enumerate(PHOTO)
    for i, kind in enumerate(line)
  ]
  return _cells(cells, size - 1, size - 1)


def _byte_array() -> list[str]:
  """Draws the photo's pixels in a row, each above its position features."""
  left, top, length, height = STRIP
  pixels = ''.join(PHOTO)
  width = length / len(pixels)
  places = [round(left + width * n, 1) for n in range(len(pixels))]
  colours = height / 4
  photo = [
    (f'class="p{kind}"', x, top) for kind, x in zip(pixels, places, strict=True)
  ]
  axis = [2 * i / (len(PHOTO) - 1) - 1 for i in range(len(PHOTO))]
  positions = [(x, y) for y in axis for x in axis]
  features: list[Callable[[float, float], float]] = [
    lambda x, y: x,
    lambda x, y: math.sin(math.pi * x),
    lambda x, y: math.cos(2 * math.pi * x),
    lambda x, y: y,
    lambda x, y: math.sin(math.pi * y),
  ]
  band = (height - colours - 2) / len(features)
  encodings = []
  for row, feature in enumerate(features):
    below = round(top + colours + 2 + band * row, 1)
    for place, position in zip(places, positions, strict=True):
      level = round((feature(*position) + 1) / 2 * (LEVELS - 1))
      encodings.append((_look('cell', level), place, below))
  return [
    *_cells(photo, width - 1, colours),
    *_cells(encodings, width - 1, band - 1),
  ]


@command.running()
def main(argv: list[str]) -> None:
  del argv
  folder = os.path.dirname(_OUTPUT.value)
  if folder:
    os.makedirs(folder, exist_ok=True)
  with open(_OUTPUT.value, 'w', encoding='utf-8') as file:
    file.write(draw(imagenet.get_config()))


if __name__ == '__main__':
  _OUTPUT = path_flags.define_path(
    'output', None, 'The SVG to write.', required=True
  )
  app.run(main)
