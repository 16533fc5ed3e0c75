"""The smoke variant of the digits, and what a run of it left."""

import jax

from configs import digits
from experiments import checkpoint, experiment, saved, sharding, telemetry


def smoke(**overrides):
  config = digits.get_config('smoke')
  config.update_from_flattened_dict(overrides)
  return config


def create(devices=1, **overrides):
  config = smoke(**overrides)
  mesh = sharding.make_mesh(
    config.train.model_parallel, jax.devices()[:devices]
  )
  return experiment.create(config, mesh)


def losses(workdir, split='train'):
  records = telemetry.read_metrics(workdir)
  return [r['loss'] for r in records if r['split'] == split]


def final_params(run, workdir):
  checkpoints = checkpoint.Checkpoints(
    str(workdir), best_metric='top1', keep=1, read_only=True
  )
  step = checkpoints.step('latest')
  state, _ = checkpoints.restore(step, saved.abstract_state(run))
  checkpoints.close()
  return jax.device_get(state.params)
