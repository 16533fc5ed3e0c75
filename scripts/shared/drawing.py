"""Draws inputs and the maps over them, as arrays of pixels.

Glossary of shapes:
- h, w: lines and columns of a picture, which is [h, w, 3] uint8.
- K: maps, side by side; grid: the layout of an input's elements.
"""

from collections.abc import Sequence
import io
import math

import matplotlib
import numpy as np
from PIL import Image

from experiments.display import View

MAP_COLORS = 'viridis'
SOUND_COLORS = 'magma'
PAPER, INK = 255, 40  # Grey levels of the background and the foreground.
SPECTROGRAM_ASPECT = 1.5  # Width divided by height.
STRIP = 12  # Height of a map along time, in pixels.
MAX_COLUMNS = 960  # For a sound; if it has more elements, they share columns.
# The view of point clouds: turned about the upright axis, then tilted.
TURN, TILT = math.radians(35), math.radians(20)
DOT = 2  # Width and height of a point, in pixels.
Frames = list[int] | slice  # Of a video, to show side by side.
ALL = slice(None)


def picture(view: View, size: int, frames: Frames = ALL) -> np.ndarray:
  """Draws a segment of the input.

  `size` is the height of the picture, or of each frame of a video, in pixels.
  """
  content = view.content
  if view.kind == 'image':
    return _enlarge(_rgb(content), size)
  if view.kind == 'video':
    return beside([_enlarge(_rgb(frame), size) for frame in content[frames]])
  if view.kind == 'spectrogram':
    pixels = _colored(_unit(content[::-1]), SOUND_COLORS)
    return _enlarge(pixels, size, SPECTROGRAM_ASPECT)
  if view.kind == 'sound':
    return _wave(content, min(view.grid[0], MAX_COLUMNS), size)
  colors = _colored(_unit(content[:, 2]), MAP_COLORS)
  return _cloud(content, colors, size)


def maps(
  view: View, values: np.ndarray, size: int, frames: Frames = ALL
) -> np.ndarray:
  """Draws one map per latent, colouring each from its minimum to its maximum.

  Args:
    view: the view of the segment.
    values: [K, *grid].
    size: the height of each map, in pixels.
    frames: as for `picture`.

  Returns:
    The maps: for a video, a row of frames per latent; for a sound, strips below
    each other; otherwise, roughly a square of maps.
  """
  if view.kind == 'video':
    return under([beside(_tiles(_unit(x), size)) for x in values[:, frames]])
  if view.kind == 'sound':
    strips = [_unit(_pooled(row)) for row in values]
    return under(
      [_colored(np.tile(s, (STRIP, 1)), MAP_COLORS) for s in strips], gap=1
    )
  if view.kind == 'points':
    units = _unit(values.reshape(len(values), -1), axis=-1)
    tiles = [
      _cloud(view.content, _colored(row, MAP_COLORS), size) for row in units
    ]
  else:
    flipped = values[:, ::-1] if view.kind == 'spectrogram' else values
    aspect = SPECTROGRAM_ASPECT if view.kind == 'spectrogram' else None
    tiles = _tiles([_unit(tile) for tile in flipped], size, aspect)
  height, width = tiles[0].shape[:2]
  squarest = max(1, round(math.sqrt(len(tiles) * height / width)))
  # Prefer full rows if they are not much wider.
  even = [c for c in range(squarest, 2 * squarest) if len(tiles) % c == 0]
  columns = even[0] if even else squarest
  rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
  return under([beside(row) for row in rows])


def overlay(
  view: View, values: np.ndarray, size: int, frames: Frames = ALL
) -> np.ndarray:
  """Draws a map [*grid] over the input, which is in grey."""
  values = _unit(values)
  if view.kind == 'points':
    values = np.sqrt(values.reshape(-1))  # Most are close to zero.
    return _cloud(view.content, _colored(values, MAP_COLORS), size)
  if view.kind == 'sound':
    strip = _colored(np.tile(_unit(_pooled(values)), (STRIP, 1)), MAP_COLORS)
    return under([picture(view, size), strip], gap=1)
  if view.kind == 'video':
    chosen = np.arange(len(values))[frames]
    return beside(
      [_heated(picture(view, size, [i]), values[i]) for i in chosen]
    )
  flipped = values[::-1] if view.kind == 'spectrogram' else values
  return _heated(picture(view, size), flipped)


def _heated(below: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Turns a picture grey, and colours it by values from 0 to 1."""
  lines, columns = (
    np.arange(length) * parts // length
    for length, parts in zip(below.shape, values.shape, strict=False)
  )
  heat = values[lines][:, columns, None]
  grey = below.mean(axis=-1, keepdims=True)
  share = 0.85 * heat**0.7  # The opacity of the heat.
  hot = _colored(0.35 + 0.65 * heat[..., 0], SOUND_COLORS)
  mixed = (1 - share) * (0.15 * PAPER + 0.6 * grey) + share * hot
  return mixed.astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
  """Returns the picture as a PNG file."""
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, 'PNG', optimize=True)
  return stream.getvalue()


def beside(parts: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
  """Joins pictures in a row."""
  return _joined(parts, 1, gap)


def under(parts: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
  """Joins pictures in a column."""
  return _joined(parts, 0, gap)


def _joined(parts: Sequence[np.ndarray], axis: int, gap: int) -> np.ndarray:
  longest = max(part.shape[1 - axis] for part in parts)
  padded = []
  for i, part in enumerate(parts):
    widths = [(0, 0)] * part.ndim
    widths[1 - axis] = (0, longest - part.shape[1 - axis])
    widths[axis] = (0, gap if i < len(parts) - 1 else 0)
    padded.append(np.pad(part, widths, constant_values=PAPER))
  return np.concatenate(padded, axis=axis)


def _unit(values: np.ndarray, axis: int | None = None) -> np.ndarray:
  """Scales values to [0, 1]; values that are not finite become 0."""
  values = np.asarray(values, np.float32)
  finite = np.isfinite(values)
  low = np.min(values, axis, keepdims=True, where=finite, initial=np.inf)
  high = np.max(values, axis, keepdims=True, where=finite, initial=-np.inf)
  extent = np.where(high > low, high - low, 1)
  low = np.where(np.isfinite(low), low, 0)
  return np.where(finite, (np.where(finite, values, 0) - low) / extent, 0)


def _colored(values: np.ndarray, colors: str) -> np.ndarray:
  """Colours values [...] from 0 to 1, as [..., 3] bytes."""
  rgba = matplotlib.colormaps[colors](values, bytes=True)
  return rgba[..., :3]


def _rgb(pixels: np.ndarray) -> np.ndarray:
  """Returns [h, w, 1 or 3] from 0 to 1 as a picture."""
  return np.broadcast_to(
    np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8),
    (*pixels.shape[:2], 3),
  )


def _tiles(values, size: int, aspect: float | None = None) -> list[np.ndarray]:
  return [_enlarge(_colored(tile, MAP_COLORS), size, aspect) for tile in values]


def _enlarge(
  pixels: np.ndarray, size: int, aspect: float | None = None
) -> np.ndarray:
  """Scales [h, w, ...] to about the height `size`; pixels stay rectangles.

  `aspect` is about width divided by height; None keeps it.
  """
  height, width = pixels.shape[:2]
  image = Image.fromarray(np.ascontiguousarray(pixels))
  wide = size * (aspect or width / height)
  # A box filter takes means where the picture becomes smaller.
  new_size = _multiple(width, wide), _multiple(height, size)
  return np.asarray(image.resize(new_size, Image.Resampling.BOX))


def _multiple(length: int, wanted: float) -> int:
  """Returns the nearest multiple of `length`, or `wanted` if it is smaller."""
  if wanted < length:
    return max(1, round(wanted))
  return length * round(wanted / length)


def _pooled(values: np.ndarray) -> np.ndarray:
  """Returns the maxima of at most MAX_COLUMNS parts of [S]."""
  if len(values) <= MAX_COLUMNS:
    return values
  starts = np.linspace(0, len(values), MAX_COLUMNS, endpoint=False)
  return np.maximum.reduceat(values, starts.astype(int))


def _wave(samples: np.ndarray, columns: int, size: int) -> np.ndarray:
  """Draws a line from the lowest to the highest sample in each column."""
  starts = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
  loudest = max(float(np.abs(samples).max()), 1e-6)
  low = np.minimum.reduceat(samples, starts) / loudest
  high = np.maximum.reduceat(samples, starts) / loudest
  height = max(size // 2, 2)
  lines = np.linspace(1, -1, height)[:, None]
  inside = (lines >= low - 1 / height) & (lines <= high + 1 / height)
  grey = np.where(inside, INK, PAPER).astype(np.uint8)
  return np.repeat(grey[..., None], 3, axis=-1)


def _cloud(points: np.ndarray, colors: np.ndarray, size: int) -> np.ndarray:
  """Draws points [M, 3] in colours [M, 3], the nearest ones in front."""
  x, y, z = points.T
  across = math.cos(TURN) * x + math.sin(TURN) * y
  depth = math.sin(TURN) * x - math.cos(TURN) * y  # Away from the viewer.
  up = math.cos(TILT) * z + math.sin(TILT) * depth
  depth = math.cos(TILT) * depth - math.sin(TILT) * z
  flat = np.stack([across, -up], axis=-1)
  reach = max(float(np.abs(flat).max()), 1e-6)
  places = (flat / reach * 0.47 + 0.5) * (size - DOT)
  columns, lines = np.round(places).astype(int).T
  pixels = np.full((size, size, 3), PAPER, np.uint8)
  for i in np.argsort(-depth):
    line, column = lines[i], columns[i]
    pixels[line : line + DOT, column : column + DOT] = colors[i]
  return pixels
