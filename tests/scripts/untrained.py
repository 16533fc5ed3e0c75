"""Saves runs without training them, which would take the longest."""

import jax
import numpy as np

from experiments import checkpoint, sharding, telemetry


def random_weights(run):
  """Returns parameters that are likely to tell any two inputs apart."""
  rng = np.random.default_rng(0)
  draw = lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32)
  return jax.tree.map(draw, run.state_shapes.params)


def save(run, workdir, params=None):
  """Writes a config, names of classes and a checkpoint, as training does.

  The model has `params` or `random_weights`; all other arrays are zero.
  """
  zeros = lambda x: np.zeros(x.shape, x.dtype)
  state = jax.tree.map(zeros, run.state_shapes)
  state = state._replace(params=params or random_weights(run))
  shardings = sharding.state_shardings(run.mesh, run.state_shapes)
  checkpoints = checkpoint.Checkpoints(
    str(workdir), best_metric=run.task.best_metric, keep=1, read_only=False
  )
  checkpoints.save(0, jax.device_put(state, shardings), 0)
  checkpoints.close()
  telemetry.record_launch(str(workdir), run.config, 0, run.class_names)
