"""Computes attention maps of a run's model, at the layout of its input."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np

from experiments.display import View
from experiments.experiment import Experiment, TrainState
from experiments.models import transform_attention
from experiments.task import Batch
from perceiver import attention_maps
from scripts.shared import drawing

DEFAULT_CROSS_ATTENDS = ('first', 'second', 'last')
NUM_LATENTS = 16  # Shown by default.
QUANTITIES = ('logits', 'attention', 'mean')


@dataclasses.dataclass(frozen=True)
class SegmentMaps:
  """Maps of one segment of an example's input."""

  view: View
  # By quantity, then by cross-attend (from 1): 'logits' and 'attention'
  # [H, K, *grid], 'mean' [*grid].
  maps: dict[str, dict[int, np.ndarray]]

  def drawn(
    self, size: int, map_size: int, frames: drawing.Frames = drawing.ALL
  ) -> Iterator[tuple[str, str, np.ndarray]]:
    """Draws all maps.

    Args:
      size: the height of a map over the input, as for `drawing.picture`.
      map_size: the height of a latent's map, in pixels.
      frames: the frames of a video to show.

    Yields:
      The quantity, the cross-attend (and the head), and the pixels.
    """
    for quantity, by_number in self.maps.items():
      for number, values in by_number.items():
        where = f'cross-attend {number}'
        if quantity == 'mean':
          pixels = drawing.overlay(self.view, values, size, frames)
          yield quantity, where, pixels
          continue
        for head, of_head in enumerate(values):
          which = f'{where}, head {head}' if len(values) > 1 else where
          pixels = drawing.maps(self.view, of_head, map_size, frames)
          yield quantity, which, pixels


class Mapper:
  """Computes the maps of a run's model, one example at a time."""

  def __init__(
    self,
    run: Experiment,
    state: TrainState,
    *,
    cross_attends: Sequence[str] = DEFAULT_CROSS_ATTENDS,
    latents: Sequence[int] | None = None,
    quantities: Sequence[str] = ('logits',),
  ):
    """Checks the arguments.

    Args:
      run: the run of a Perceiver.
      state: the trained state; its parameters and model state are kept.
      cross_attends: 'first', 'second', 'last' or numbers from 1; 'second' is
        skipped if the model has only one.
      latents: numbers from 0; None for the first `NUM_LATENTS`.
      quantities: some of `QUANTITIES`.

    Raises:
      ValueError: if the model has no such cross-attend or latent.
    """
    config = run.config
    forward = transform_attention(config, run.task, run.mesh)
    self.cross_attends = _numbers(cross_attends, config.model.num_cross_attends)
    count = config.model.num_latents
    self.latents = list(
      range(min(NUM_LATENTS, count)) if latents is None else latents
    )
    if bad := [x for x in self.latents if not 0 <= x < count]:
      raise ValueError(
        f'There is no latent {bad[0]}: the model has 0 to {count - 1}.'
      )
    for quantity in quantities:
      if quantity not in QUANTITIES:
        raise ValueError(f'--show={quantity} is none of {QUANTITIES}.')
    self._display = run.task.display
    self._weights = state.params, state.model_state
    self._quantities = quantities

    def attend(params: Any, model_state: Any, batch: Batch) -> Any:
      return forward.apply(params, model_state, None, batch)[0]

    self._attend = jax.jit(attend)
    self._logits = jax.jit(
      functools.partial(attention_maps.logits, latents=self.latents)
    )
    self._softmax = jax.jit(attention_maps.weights)
    self._mean = jax.jit(attention_maps.mean_weights)

  def __call__(self, window: Batch) -> list[SegmentMaps]:
    """The maps of each segment of an example, as from `Display.window`."""
    batch = {name: np.asarray(x)[None] for name, x in window.items()}
    queries, inputs = self._attend(*self._weights, batch)
    segments = [SegmentMaps(view, {}) for view in self._display.views(window)]
    sizes = [segment.num_elements for segment in inputs.segments]

    def keep(quantity: str, number: int, values: jax.Array) -> None:
      parts = np.split(np.asarray(values[0]), np.cumsum(sizes)[:-1], axis=-1)
      for segment, part in zip(segments, parts, strict=True):
        maps = segment.maps.setdefault(quantity, {})
        maps[number] = segment.view.at_layout(part)

    for number in self.cross_attends:
      asked = queries[number - 1]
      if {'logits', 'attention'} & set(self._quantities):
        logits = self._logits(asked, inputs)
        if 'logits' in self._quantities:
          keep('logits', number, logits)
        if 'attention' in self._quantities:
          keep('attention', number, self._softmax(logits, inputs))
      if 'mean' in self._quantities:
        keep('mean', number, self._mean(asked, inputs))
    return segments


def _numbers(names: Sequence[str], count: int) -> list[int]:
  """Returns the numbers of cross-attends from 1, sorted, without repeats."""
  named = {'first': 1, 'second': 2, 'last': count}
  numbers = []
  for name in names:
    if not (name in named or re.fullmatch(r'\d{1,9}', name, re.ASCII)):
      raise ValueError(
        f'--cross_attends={name} is no number, nor one of first'
        ', second and last.'
      )
    number = named.get(name) or int(name)
    if name == 'second' and count < 2:
      continue
    if not 1 <= number <= count:
      raise ValueError(
        f'There is no cross-attend {name}: the model has 1 to {count}.'
      )
    numbers.append(number)
  return sorted(set(numbers))
