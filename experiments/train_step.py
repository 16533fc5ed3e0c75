"""The training step, compiled; it skips gradients that are not finite."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import optimizers, sharding
from experiments.experiment import Experiment, TrainState


def make_train_step(
  experiment: Experiment,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
  """A jitted (state, batch) -> (new state, metrics); the state is donated.

  A step whose loss or gradient is not finite changes nothing but `state.step`.
  """
  task, config, mesh = experiment.task, experiment.config, experiment.mesh
  accumulate = config.train.accumulate

  def loss(params, model_state, batch, key):
    logits, model_state = experiment.forward.apply(
      params, model_state, key, batch, True
    )
    losses = task.loss(logits, batch)  # [B]
    mask = batch['mask']  # [B]
    sums = jax.tree.map(
      lambda x: jnp.sum(jnp.where(mask, x, 0.0)),
      {'loss': losses, 'count': 1.0, **task.metrics(logits, batch)},
    )
    return sums['loss'], (model_state, sums)

  def add_micro_batch(carry, batch_and_key):
    params, model_state, grads, sums = carry
    batch, key = batch_and_key
    new_grads, (model_state, new_sums) = jax.grad(loss, has_aux=True)(
      params, model_state, batch, key
    )
    grads, sums = jax.tree.map(jnp.add, (grads, sums), (new_grads, new_sums))
    return (params, model_state, grads, sums), None

  def gradient(state: TrainState, batch: Any, key: jax.Array):
    """Sums of gradients and metrics over the batch."""
    if accumulate == 1:
      grads, (model_state, sums) = jax.grad(loss, has_aux=True)(
        state.params, state.model_state, batch, key
      )
      return grads, model_state, sums
    # Micro-batch i takes every i-th example, so that each stays split over the
    # devices as the batch is: [B] -> [B / A, A] -> [A, B / A].
    batch = jax.tree.map(
      lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
    )
    first = jax.tree.map(lambda x: x[0], batch)
    _, (_, sums) = jax.eval_shape(
      loss, state.params, state.model_state, first, key
    )
    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), (state.params, sums)
    )
    (_, model_state, grads, sums), _ = jax.lax.scan(
      add_micro_batch,
      (state.params, state.model_state, *zeros),
      (batch, jax.random.split(key, accumulate)),
    )
    return grads, model_state, sums

  def train_step(state: TrainState, batch: Any):
    # The key follows from the step, so a resumed run draws the same ones.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    key, augment_key = jax.random.split(key)
    batch = task.augment_batch(batch, augment_key)
    grads, model_state, sums = gradient(state, batch, key)
    count = jnp.maximum(sums.pop('count'), 1)
    grads, metrics = jax.tree.map(lambda x: x / count, (grads, sums))
    updates, opt_state = experiment.optimizer.update(
      grads, state.opt_state, state.params
    )
    metrics |= {
      'grad_norm': optimizers.global_norm(grads),
      'learning_rate': experiment.schedule(
        optimizers.num_updates(state.opt_state)
      ),
    }
    params = optax.apply_updates(state.params, updates)
    is_finite = jnp.isfinite(metrics['loss']) & jnp.isfinite(
      metrics['grad_norm']
    )
    return TrainState(
      state.step + 1,
      *jax.tree.map(
        functools.partial(jnp.where, is_finite),
        (params, model_state, opt_state),
        state[1:],
      ),
    ), metrics

  shardings = sharding.state_shardings(mesh, experiment.state_shapes)
  program = jax.jit(
    train_step,
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
    donate_argnums=0,
  )
  return experiment.programs.setdefault('train_step', program)
