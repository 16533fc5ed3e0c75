"""A run's directory, opened again: its config and its checkpoints."""

from collections.abc import Mapping, Sequence
import json
import logging
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import (
  config_effects,
  data_workers,
  evaluate,
  experiment,
  sharding,
  storage,
  telemetry,
  watchdog,
)
from experiments.checkpoint import CheckpointMismatchError, Checkpoints
from experiments.errors import explaining_no_device
from experiments.experiment import Experiment, TrainState
from perceiver.effects import Effect

log = logging.getLogger(__name__)


def read_config(workdir: str) -> ConfigDict:
  """Returns the config of a run's last launch.

  Raises:
    FileNotFoundError: if the directory is not a run's.
    ValueError: if the file is not a config.
  """
  path = storage.path(workdir) / telemetry.CONFIG
  if not path.exists():
    raise FileNotFoundError(
      f'{workdir} is not the workdir of a run: it has no {telemetry.CONFIG}.'
    )
  try:
    config = ConfigDict(_with_tuples(json.loads(path.read_text())))
    for section in ('data', 'task', 'model', 'optimizer', 'train', 'eval'):
      _ = config[section]
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f'{path} is no config: {error}') from error
  return config


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a config, or of a part of it, by 'section.key'."""
  values: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      values |= {f'{key}.{k}': x for k, x in flat(value).items()}
    else:
      values[key] = value
  return values


def check_config(experiment: Experiment, workdir: str) -> None:
  """Compares a config with that of a run's last launch; logs differences.

  Raises:
    CheckpointMismatchError: if the run's weights mean something else with this
      config, even if their shapes are the same.
    ValueError: if the run's config cannot be read.
  """
  if not (storage.path(workdir) / telemetry.CONFIG).exists():
    log.warning(
      '%s has no %s: only the shapes of its arrays tell which model it is of.',
      *(workdir, telemetry.CONFIG),
    )
    return
  config = experiment.config.to_dict()
  # Keys that an older version did not have take their defaults.
  before, now = (
    json.loads(
      json.dumps(config_effects.defaults(config) | flat(x), default=str)
    )
    for x in (read_config(workdir).to_dict(), config)
  )
  changed = {
    key: f'{before.get(key, "absent")!r} in the run,'
    f' {now.get(key, "absent")!r} in this config'
    for key in sorted(before | now)
    if before.get(key) != now.get(key)
  }
  for key, values in changed.items():
    log.info('Changed: %s is %s.', key, values)
  wrong = [
    key
    for key in changed
    if config_effects.effect(key, config) == Effect.FUNCTION
  ]
  # With another class, its keys differ anyway.
  wrong = [key for key in wrong if key in config_effects.NAMES] or wrong
  if wrong:
    raise CheckpointMismatchError(
      f'{workdir} was trained as another model than this config describes:\n'
      + ''.join(f'  {key}: {changed[key]}\n' for key in wrong)
      + f"Use the run's own values, those of its {telemetry.CONFIG}, or another"
      ' --workdir.'
    )


def open_run(
  workdir: str, data_dir: str | None = None, checkpoint: str | None = None
) -> Experiment:
  """Opens a run, wherever it was trained, on one device of this machine.

  Args:
    workdir: the run's directory.
    data_dir: where its data is on this machine; None: as its config says.
    checkpoint: what to `restore`, 'latest' or 'best'; None: as its config says.

  Raises:
    FileNotFoundError: if the directory is not a run's.
    OSError: if JAX has no device.
    ValueError: if its config cannot be read, or does not fit this version.
  """
  config = read_config(workdir)
  if data_dir is not None:
    config.data.dir = data_dir
  if checkpoint is not None:
    config.eval.checkpoint = checkpoint
  config.train.model_parallel = 1
  if 'self_attention' in config.model:
    config.model.self_attention = 'auto'  # A named kernel may not run here.
  with explaining_no_device():
    devices = jax.local_devices()[:1]
  mesh = sharding.make_mesh(1, devices)
  return experiment.create(config, mesh)


def class_names(run: Experiment, workdir: str) -> Sequence[str]:
  """Returns the classes' names, from the run's directory or from its data."""
  path = storage.path(workdir) / telemetry.CLASSES
  if path.exists():
    return json.loads(path.read_text())
  return run.class_names


def restore(experiment: Experiment, workdir: str) -> TrainState:
  """Restores a run's latest or best checkpoint, as `eval.checkpoint` says.

  Raises:
    FileNotFoundError: if the workdir has no intact checkpoint.
    checkpoint.CheckpointMismatchError: if it belongs to another model.
  """
  task, config = experiment.task, experiment.config
  watchdog.begin('restoring')
  if not Checkpoints.exist(workdir):
    raise FileNotFoundError(
      f'No checkpoints in --workdir={workdir}: train first (--mode=train).'
    )
  checkpoints = Checkpoints(
    workdir,
    best_metric=task.best_metric,
    keep=config.train.keep_checkpoints,
    read_only=True,
  )
  step = checkpoints.step(config.eval.checkpoint)
  if step is None:
    raise FileNotFoundError(f'No intact checkpoint in --workdir={workdir}.')
  log.info('Using the checkpoint of step %d.', step)
  state, _ = restore_step(experiment, workdir, checkpoints, step)
  checkpoints.close()
  return state


def restore_step(
  experiment: Experiment, workdir: str, checkpoints: Checkpoints, step: int
) -> tuple[TrainState, int]:
  """Restores a checkpoint: the state, and the position in the data.

  Raises:
    checkpoint.CheckpointMismatchError: if it belongs to another model.
  """
  check_config(experiment, workdir)
  return checkpoints.restore(step, abstract_state(experiment))


def evaluate_checkpoint(
  experiment: Experiment, workdir: str
) -> evaluate.SplitMetrics:
  """Evaluates what `restore` returns; raises what either may raise."""
  sources = evaluate.open_sources(experiment)
  data_workers.check_shared_memory(evaluate.shared_bytes(experiment))
  state = restore(experiment, workdir)
  eval_step = watchdog.compiles_first(evaluate.make_eval_step(experiment))
  return evaluate.evaluate_splits(
    experiment, eval_step, state, sources, workdir
  )


def abstract_state(experiment: Experiment) -> TrainState:
  """Returns the state's shapes, dtypes and shardings."""
  shapes = experiment.state_shapes
  shardings = sharding.state_shardings(experiment.mesh, shapes)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    shardings,
  )


def _with_tuples(value: Any) -> Any:
  """Replaces JSON's lists by tuples, which configs have."""
  if isinstance(value, dict):
    return {key: _with_tuples(x) for key, x in value.items()}
  if isinstance(value, list):
    return tuple(map(_with_tuples, value))
  return value
