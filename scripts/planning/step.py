"""The steps of a run, traced for devices that need not be there."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import evaluate, experiment, saved, sharding, train_step

MODES = ('train', 'eval')


def trace(
  config: ConfigDict, mode: str, devices: Sequence[jax.Device]
) -> tuple[Any, experiment.Experiment]:
  """The very step that a run takes, traced; and the experiment that it is of.

  Args:
    config: as from a config file.
    mode: of `MODES`: the step, and the section with its batch_size.
    devices: all that it is for.

  Raises:
    ValueError: what is wrong with the config.
  """
  mesh = sharding.make_mesh(config.train.model_parallel, devices)
  run = experiment.create(config, mesh)
  split = sharding.batch_sharding(mesh)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split),
    run.task.batch_spec(config[mode].batch_size),
  )
  if mode == 'eval':  # What the pipeline adds.
    shape = (config.eval.batch_size,)
    batch['record'] = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=split)
  state = saved.abstract_state(run)
  step: Any
  if mode == 'train':
    step = train_step.make_train_step(run)
    return step.trace(state, batch), run
  step = evaluate.make_eval_step(run)
  return step.trace(state.params, state.model_state, batch), run
