"""How people see examples of a benchmark: each segment at its own layout.

Glossary of shapes:
- M: elements of a segment; grid: their layout, whose product is M.
- T: frames; H, W: lines and columns; F: mel bins; S: samples.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Literal

import numpy as np

Kind = Literal['image', 'video', 'spectrogram', 'sound', 'points']


@dataclasses.dataclass(frozen=True)
class View:
  """A segment of the byte array of one example, for people to look at.

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
  order: np.ndarray | None = None  # Element i is at order[i] of the grid.

  def at_layout(self, values: np.ndarray) -> np.ndarray:
    """Puts values of the elements, [..., M], in their places: [..., *grid]."""
    if self.order is not None:
      placed = np.empty_like(values)
      placed[..., self.order] = values
      values = placed
    return values.reshape(*values.shape[:-1], *self.grid)


class Display:
  """How a benchmark shows its evaluation examples.

  The defaults are for examples with one label, which are seen whole by a
  forward pass and have no view.
  """

  @property
  def num_windows(self) -> int:
    """The number of forward passes that evaluation averages per example."""
    return 1

  def window(self, example: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    """Returns the part of an example that one forward pass sees.

    Args:
      example: as from `Task.eval_example`.
      index: of the part, below `num_windows`.
    """
    del index
    return example

  def views(self, window: Mapping[str, Any]) -> tuple[View, ...]:
    """Returns a view of each segment of a window's byte array."""
    del window
    return ()

  def truth(
    self, example: Mapping[str, Any], class_names: Sequence[str]
  ) -> str:
    """Names the true class of an example, or its classes."""
    return class_names[int(example['label'])]
