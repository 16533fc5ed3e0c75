"""SIGTERM: how a scheduler tells a run to stop, and how the run takes it."""

import itertools

import jax
from jax.experimental import multihost_utils

_questions = itertools.count(1)


class PreemptedError(RuntimeError):
  """The run was told to stop; the same command goes on from its checkpoint."""


def is_told_to_stop() -> bool:
  """Whether all processes are to stop here.

  They agree on one of their next questions, so each has to ask as often as the
  others, at the same places: after each step and each batch of an evaluation.
  Nobody else may ask JAX, see `checkpoint`: it says yes to one number alone.
  """
  # Before `jax.distributed` runs, SIGTERM ends the process without further ado.
  return jax.distributed.is_initialized() and (
    multihost_utils.reached_preemption_sync_point(next(_questions))
  )
