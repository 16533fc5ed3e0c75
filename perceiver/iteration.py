"""The iteration of cross-attends and latent Transformers (section 3.1).

Glossary of shapes:
- B: batch; N: latents; D: latent channels.
"""

from collections.abc import Callable, Sequence
import dataclasses
import itertools
from typing import Any

import haiku as hk
import jax

from perceiver.blocks import CrossAttention, LatentTransformer, remat
from perceiver.ops import cross_attention

PLACEMENTS = ('interleaved', 'at_start')


def latent_transformers_after(
  num_cross_attends: int, num_latent_transformers: int, placement: str
) -> list[int]:
  """Counts the latent Transformers after each cross-attend (Table 6).

  Interleaved cross-attends are spaced evenly, the first at the start. Without
  latent Transformers the model is a stack of cross-attends (Table 5).

  Raises:
    ValueError: for an unknown placement, no cross-attend, or more of them than
      there are latent Transformers to interleave with.
  """
  if placement not in PLACEMENTS:
    raise ValueError(
      f'cross_attend_placement={placement!r} is none of {PLACEMENTS}.'
    )
  if num_cross_attends < 1:
    raise ValueError(f'num_cross_attends={num_cross_attends} must be >= 1.')
  if placement == 'at_start':
    return [0] * (num_cross_attends - 1) + [num_latent_transformers]
  if 0 < num_latent_transformers < num_cross_attends:
    raise ValueError(
      f'Cannot interleave {num_cross_attends} cross-attends with only'
      f' {num_latent_transformers} latent Transformers.'
    )
  starts = [
    i * num_latent_transformers // num_cross_attends
    for i in range(num_cross_attends + 1)
  ]
  return [end - start for start, end in itertools.pairwise(starts)]


@dataclasses.dataclass
class Iteration:
  """A cross-attend and the latent Transformers that follow it."""

  cross_attend: CrossAttention
  transformers: list[LatentTransformer]
  remat: str

  def __call__(
    self,
    latents: jax.Array,  # [B, N, D]
    inputs: cross_attention.Inputs,
    is_training: bool,
    unroll: bool = False,  # As in `in_turn`.
  ) -> jax.Array:  # [B, N, D]
    cross_attend = lambda x: self.cross_attend(x, inputs, is_training)
    latents = remat(cross_attend, self.remat)(latents)
    return in_turn(self.transformers, unroll, latents, is_training)


def in_turn(
  modules: Sequence[Callable[..., jax.Array]],
  unroll: bool,
  latents: jax.Array,
  *arguments: Any,
) -> jax.Array:
  """Applies `latents = module(latents, *arguments)` for each module in turn.

  Equal modules in a row share their weights: without `unroll` they become one
  scan, which is compiled once.
  """
  for module, run in itertools.groupby(modules):
    length = len(list(run))
    if unroll or length == 1:
      for _ in range(length):
        latents = module(latents, *arguments)
    else:
      step = lambda latents, _, f=module: (f(latents, *arguments), None)
      latents, _ = hk.scan(step, latents, None, length=length)
  return latents
