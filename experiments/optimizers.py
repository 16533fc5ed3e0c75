"""Optimizers and learning-rate schedules (section 4.1; PAPER's open points)."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import optax

from perceiver.ranges import FractionBelowOne, Positive, PositiveOrZero

SCHEDULES = ('constant', 'step', 'cosine')
OPTIMIZERS = ('lamb', 'adamw')
# Haiku's names for the biases of linear layers and for layer norm's parameters.
NOT_DECAYED = ('b', 'scale', 'offset')


def learning_rate_schedule(
  total_steps: int,
  *,
  learning_rate: PositiveOrZero,
  schedule: str = 'constant',
  warmup: float = 0.0,
  decay_at: Sequence[float] = (),
  decay_factor: Positive = 0.1,
) -> optax.Schedule:
  """The learning rate by step.

  Args:
    total_steps: of the run.
    learning_rate: at the start, or after the warm-up.
    schedule: 'constant'; 'step': times `decay_factor` at each of `decay_at`; or
      'cosine': down to 0 at the end, from the first of `decay_at` on, if any.
    warmup: fraction of the run over which the rate rises from 0. Decays within
      it take effect at its end.
    decay_at: fractions of the run (0.7: epoch 84 of 120).
    decay_factor: for 'step'.

  Returns:
    A function of the step, counted from 0.

  Raises:
    ValueError: for an unknown schedule or a fraction outside [0, 1].
  """
  if schedule not in SCHEDULES:
    raise ValueError(f'optimizer.schedule={schedule!r} is none of {SCHEDULES}.')
  if not all(0 <= fraction <= 1 for fraction in (warmup, *decay_at)):
    raise ValueError(
      f'optimizer.warmup={warmup} and optimizer.decay_at={decay_at} are'
      ' fractions of the run, from 0 to 1.'
    )
  warmup_steps = round(warmup * total_steps)
  if schedule == 'constant':
    after = optax.constant_schedule(learning_rate)
  elif schedule == 'step':
    # In a short run several decays may fall on one step.
    decays = collections.Counter(round(at * total_steps) for at in decay_at)
    boundaries = {
      step - warmup_steps: decay_factor**n for step, n in decays.items()
    }
    after = optax.piecewise_constant_schedule(learning_rate, boundaries)
  else:
    start = round(min(decay_at) * total_steps) if decay_at else warmup_steps
    after = optax.join_schedules(
      [
        optax.constant_schedule(learning_rate),
        optax.cosine_decay_schedule(learning_rate, max(1, total_steps - start)),
      ],
      [start - warmup_steps],
    )
  if not warmup_steps:
    return after
  rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  return optax.join_schedules([rise, after], [warmup_steps])


def num_updates(opt_state: optax.OptState) -> jax.Array:
  """Number of updates an optimizer of `create` has made: its schedule's step.

  Skipped training steps do not count. The result is a scalar int32.
  """
  return optax.tree.get(opt_state, 'ScaleByScheduleState').count


def weight_decay_mask(params: Any) -> Any:
  """True for weights; False for biases and layer norms."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key not in NOT_DECAYED, params
  )


def create(
  total_steps: int,
  *,
  name: str,
  b1: FractionBelowOne,
  b2: FractionBelowOne,
  eps: Positive,
  weight_decay: PositiveOrZero,
  clip_norm: Positive,
  **schedule_settings: Any,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """LAMB or AdamW, after clipping by the global norm.

  Args:
    total_steps: of the run.
    name: 'lamb' or 'adamw'.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    weight_decay: on weights, not on biases and layer norms.
    clip_norm: the largest global norm that a gradient keeps.
    **schedule_settings: of `learning_rate_schedule`.

  Returns:
    The optimizer, and the schedule of its learning rate.

  Raises:
    ValueError: for an unknown name, or as `learning_rate_schedule`.
  """
  if name not in OPTIMIZERS:
    raise ValueError(f'optimizer.name={name!r} is none of {OPTIMIZERS}.')
  schedule = learning_rate_schedule(total_steps, **schedule_settings)
  optimizer = optax.lamb if name == 'lamb' else optax.adamw
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optimizer(
      schedule,
      b1=b1,
      b2=b2,
      eps=eps,
      weight_decay=weight_decay,
      mask=weight_decay_mask,
    ),
  ), schedule
