"""Traces the steps of a run for devices that need not be present."""

from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import evaluate, experiment, saved, sharding, train_step
from scripts.plan import targets

MODES = ('train', 'eval')


@targets.with_cudnn()
def trace(
  config: ConfigDict, mode: str, devices: Sequence[jax.Device]
) -> tuple[Any, experiment.Experiment]:
  """Traces the step that a run takes; returns it with its experiment.

  Raises ValueError if something is wrong with the config. `mode` is one of
  `MODES`: the step, and the section with its batch_size.
  """
  mesh = sharding.make_mesh(config.train.model_parallel, devices)
  run = experiment.create(config, mesh)
  split = sharding.batch_sharding(mesh)
  task = run.task
  spec = {'train': task.train_batch_spec, 'eval': task.eval_batch_spec}[mode]
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split),
    spec(config[mode].batch_size),
  )
  state = saved.abstract_state(run)
  step: Any
  if mode == 'train':
    step = train_step.make_train_step(run)
    return step.trace(state, batch), run
  step = evaluate.make_eval_step(run)
  return step.trace(state.params, state.model_state, batch), run
