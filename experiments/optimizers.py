"""Optimizers and learning-rate schedules (section 4.1; PAPER's open points)."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
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


def global_norm(tree: Any) -> jax.Array:
  """Returns the root of the sum of all squares in a tree of arrays.

  It adds arrays of one shape before it sums over their elements: by the TPU
  compiler's estimate such sums take longer than reading the array.
  """
  squares: dict[tuple[int, ...], jax.Array] = {}
  for x in jax.tree.leaves(tree):
    squares[x.shape] = squares.get(x.shape, 0.0) + jnp.square(x)
  return jnp.sqrt(sum(map(jnp.sum, squares.values())))


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
  """Scales gradients down to a `global_norm` of at most `max_norm`."""

  def clip(grads: Any, params: Any) -> Any:
    del params
    norm = global_norm(grads)
    scale = jnp.where(norm < max_norm, 1.0, max_norm / norm)
    return jax.tree.map(lambda x: x * scale, grads)

  return optax.stateless(clip)


def scale_by_trust_ratio() -> optax.GradientTransformation:
  """Gives each array's update the norm of the array (You et al., 2020).

  optax's computes each norm twice, so that one can differentiate it where it is
  zero: a quarter of the optimiser's time by the compiler's estimate for v5e.
  """

  def scale(updates: Any, params: Any) -> Any:
    return jax.tree.map(_times_trust_ratio, updates, params)

  return optax.stateless(scale)


def _times_trust_ratio(update: jax.Array, param: jax.Array) -> jax.Array:
  norm, update_norm = optax.tree.norm(param), optax.tree.norm(update)
  is_zero = (norm == 0) | (update_norm == 0)
  return update * jnp.where(is_zero, 1.0, norm / update_norm)


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
  return optax.chain(
    clip_by_global_norm(clip_norm),
    optax.chain(
      optax.scale_by_adam(b1, b2, eps),
      optax.add_decayed_weights(weight_decay, weight_decay_mask),
      *([scale_by_trust_ratio()] if name == 'lamb' else []),
      optax.scale_by_learning_rate(schedule),
    ),
  ), schedule
