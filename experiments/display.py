"""What a person sees of an example: its segments at their own layout.

Glossary of shapes:
- M: elements of a segment; grid: their layout, whose product is M.
- T: frames; H, W: lines and columns; F: mel bins; S: samples.
"""

import dataclasses
from typing import Literal

import numpy as np

Kind = Literal['image', 'video', 'spectrogram', 'sound', 'points']


@dataclasses.dataclass(frozen=True)
class View:
  """A segment of the byte array of one example, to be looked at.

  The content is by kind:
    image: [H, W, 1 or 3] from 0 to 1.
    video: [T, H, W, 3] from 0 to 1, a frame for each patch frame.
    spectrogram: [F, T], low frequencies first.
    sound: [S] from -1 to 1.
    points: [M, 3], the last axis upright.
  """

  kind: Kind
  content: np.ndarray
  grid: tuple[int, ...]
  order: np.ndarray | None = None  # Of elements: i is at order[i] of the grid.

  def at_layout(self, values: np.ndarray) -> np.ndarray:
    """Values of the elements, [..., M], where they belong: [..., *grid]."""
    if self.order is not None:
      placed = np.empty_like(values)
      placed[..., self.order] = values
      values = placed
    return values.reshape(*values.shape[:-1], *self.grid)
