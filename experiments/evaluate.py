"""Evaluation in which every example counts exactly once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import sharding
from experiments.data import pipeline
from experiments.experiment import Experiment

Totals = dict[str, jax.Array]  # Sums over examples by metric, and 'count'.


def make_eval_step(experiment: Experiment) -> Callable[..., Totals]:
  """A jitted (params, model_state, batch) -> sums over unmasked examples."""
  task, mesh = experiment.task, experiment.mesh

  def eval_step(params: Any, model_state: Any, batch: Any) -> Totals:
    logits, _ = experiment.forward.apply(
      params, model_state, None, batch, False
    )
    values = task.metrics(logits, batch) | {'loss': task.loss(logits, batch)}
    mask = batch['mask']  # [B]
    totals = {
      name: jnp.sum(jnp.where(mask, value, 0.0))
      for name, value in values.items()
    }
    return totals | {'count': jnp.sum(mask)}

  return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))


def batches(
  experiment: Experiment, source: Sequence[Any]
) -> Iterator[pipeline.NumpyBatch]:
  """This process's share of a split, each example once."""
  return pipeline.eval_batches(
    experiment.task,
    source,
    batch_size=experiment.config.eval.batch_size,
    num_workers=experiment.config.data.num_workers,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )


def evaluate(
  experiment: Experiment,
  eval_step: Callable[..., Totals],
  params: Any,
  model_state: Any,
  batches: Iterable[pipeline.NumpyBatch],
) -> dict[str, float]:
  """Means over all examples.

  Args:
    experiment: its mesh is where the batches go.
    eval_step: as from `make_eval_step`.
    params: the model's parameters.
    model_state: its state.
    batches: this process's share, each with a 'mask' [B].

  Returns:
    The mean of each metric and of the loss, and 'count', the examples seen.
  """
  totals = [
    eval_step(params, model_state, sharding.put_batch(b, experiment.mesh))
    for b in batches
  ]
  # Summed on the host in float64: counts stay exact.
  sums = jax.tree.map(
    lambda *x: np.sum(x, dtype=np.float64), *map(jax.device_get, totals)
  )
  count = sums.pop('count')
  means = {name: float(value / count) for name, value in sums.items()}
  return means | {'count': int(count)}
