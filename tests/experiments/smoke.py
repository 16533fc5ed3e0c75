"""The smoke variant of the digits, and readers of its runs."""

import contextlib
import itertools
import json
import pathlib

import jax
import pytest

from configs import digits
from experiments import (
  checkpoint,
  experiment,
  preemption,
  saved,
  sharding,
  telemetry,
)


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


def by_step(workdir, split='train', metric='loss'):
  records = [x for x in telemetry.read_metrics(workdir) if x['split'] == split]
  found = {x['step']: x[metric] for x in records}
  assert len(found) == len(records)
  return found


def losses(workdir, split='train'):
  return list(by_step(workdir, split).values())


def starts(workdir):
  """Returns the step at which each launch began."""
  launches = telemetry.read_records(str(workdir), telemetry.LAUNCHES)
  return [launch['start_step'] for launch in launches]


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


@contextlib.contextmanager
def edited_config(workdir):
  """Yields the config that a run has left, and writes it back as changed."""
  path = pathlib.Path(workdir) / telemetry.CONFIG
  config = json.loads(path.read_text())
  yield config
  path.write_text(json.dumps(config))


def final_params(run, workdir):
  with checkpoints(workdir) as reader:
    step = reader.step('latest')
    state, _ = reader.restore(step, saved.abstract_state(run))
  return jax.device_get(state.params)


@contextlib.contextmanager
def told_to_stop(question, message='Told to stop'):
  """Expects a run to end at the given question whether it is to stop."""
  answers = (number == question for number in itertools.count(1))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(preemption, 'is_told_to_stop', lambda: next(answers))
    with pytest.raises(preemption.PreemptedError, match=message):
      yield
