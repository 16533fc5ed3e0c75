"""The smoke variant of the digits, and readers of its runs."""

import contextlib

import jax

from configs import digits
from experiments import checkpoint, experiment, saved, sharding, telemetry


def smoke(**overrides):
  config = digits.get_config('smoke')
  config.update_from_flattened_dict(overrides)
  return config


def create(devices=1, **overrides):
  return on_devices(smoke(**overrides), devices)


def on_devices(config, count=1):
  mesh = sharding.make_mesh(config.train.model_parallel, jax.devices()[:count])
  return experiment.create(config, mesh)


def fresh(run):
  """Returns the state that training starts from."""
  shardings = sharding.state_shardings(run.mesh, run.state_shapes)
  init = jax.jit(run.init_state, out_shardings=shardings)
  return init(jax.random.key(run.config.seed))


def losses(workdir, split='train'):
  records = telemetry.read_metrics(workdir)
  return [r['loss'] for r in records if r['split'] == split]


@contextlib.contextmanager
def checkpoints(workdir, read_only=True, keep=1):
  """Yields the checkpoints of a run."""
  opened = checkpoint.Checkpoints(
    str(workdir), best_metric='top1', keep=keep, read_only=read_only
  )
  try:
    yield opened
  finally:
    opened.close()


def latest(workdir):
  """Returns the step that a run would go on from."""
  with checkpoints(workdir) as reader:
    return reader.step('latest')


def final_params(run, workdir):
  with checkpoints(workdir) as reader:
    step = reader.step('latest')
    state, _ = reader.restore(step, saved.abstract_state(run))
  return jax.device_get(state.params)


class Stop:
  """Replaces `preemption.is_told_to_stop`: True for one question alone."""

  def __init__(self, question):
    self.asked, self.question = 0, question

  def __call__(self):
    self.asked += 1
    return self.asked == self.question
