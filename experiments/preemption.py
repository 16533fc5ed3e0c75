"""SIGTERM, by which a scheduler tells a run to stop."""

import itertools

import jax
from jax.experimental import multihost_utils

_questions = itertools.count(1)


class PreemptedError(RuntimeError):
  """The run was told to stop; the same command goes on from its checkpoint."""


def is_told_to_stop() -> bool:
  """Returns whether all processes are to stop here.

  They agree on one of their next calls. So all have to call this equally often,
  at the same places: after each step and each batch of an evaluation. Nothing
  else may ask JAX, because it says yes to one number only; see `checkpoint`.
  """
  # Before `jax.distributed` runs, SIGTERM just ends the process.
  return jax.distributed.is_initialized() and (
    multihost_utils.reached_preemption_sync_point(next(_questions))
  )
