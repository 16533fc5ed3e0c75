"""Steps that are NaN or infinite are skipped; a run of nothing else ends."""

from collections.abc import Mapping
import logging
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from experiments import telemetry
from experiments.checkpoint import Checkpoints
from experiments.experiment import TrainState

log = logging.getLogger(__name__)


class NonFiniteError(FloatingPointError):
  """Losses, gradients or parameters are NaN or infinite."""


class Guard:
  """Ends a run that diverges, before it saves anything that is not finite."""

  def __init__(self, workdir: str, max_skipped: int, checkpoints: Checkpoints):
    self._workdir = workdir
    self._max_skipped = max_skipped
    self._checkpoints = checkpoints
    self._skipped = 0  # Steps in a row.

  def was_skipped(self, step: int, metrics: Mapping[str, float]) -> bool:
    """Whether a step was not finite, so that it changed no parameters.

    Raises:
      NonFiniteError: if more than `max_skipped` steps in a row were skipped.
    """
    if np.isfinite([metrics['loss'], metrics['grad_norm']]).all():
      self._skipped = 0
      return False
    self._skipped += 1
    said = (
      f'Step {step} has loss {metrics["loss"]} and gradient norm'
      f' {metrics["grad_norm"]}'
    )
    telemetry.record_skipped_step(self._workdir, step, said)
    if self._skipped > self._max_skipped:
      self._fail(f'{said}, and train.max_skipped_steps={self._max_skipped}')
    log.warning('%s: skipped.', said)
    return True

  def check_parameters(self, step: int, state: TrainState) -> None:
    """Raises NonFiniteError if the parameters after a step are not finite."""
    if not _all_finite((state.params, state.model_state)):
      self._fail(f'After step {step} the parameters are not finite')

  def _fail(self, what: str) -> NoReturn:
    good = self._checkpoints.step('latest')
    raise NonFiniteError(
      f'{what}. The last good checkpoint in {self._workdir} is'
      f' {"none" if good is None else f"that of step {good}"}; a lower'
      ' optimizer.learning_rate may help.'
    )


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
