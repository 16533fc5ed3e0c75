"""A config, checked and made into the objects that a run consists of.

Everything that can be wrong with a config is found here, in seconds, before
anything is compiled or written.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict
import optax

from experiments import (
  benchmarks,
  config_checks,
  models,
  optimizers,
  profiling,
  sharding,
)
from experiments.errors import DataNotFoundError
from experiments.models import forward_flops as forward_flops  # Re-exported.
from experiments.task import Task


class TrainState(NamedTuple):
  """All that a training step reads and writes."""

  step: Any  # Scalar int32: steps done.
  params: Any
  model_state: Any  # Haiku's state, such as batch norm's averages.
  opt_state: Any


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything that training and evaluation share."""

  config: ConfigDict  # Its paths are resolved.
  task: Task
  forward: hk.TransformedWithState  # (batch, is_training) -> [B, classes]
  mesh: Mesh
  total_steps: int
  schedule: optax.Schedule
  optimizer: optax.GradientTransformation
  init_state: Callable[[jax.Array], TrainState]  # From a random key.
  state_shapes: TrainState
  # Jitted functions by name: a run that is trained, resumed and evaluated in
  # one process, as in a notebook, is traced and compiled once.
  programs: dict[str, Any] = dataclasses.field(
    default_factory=dict, repr=False, compare=False
  )

  def source(self, split: str) -> Sequence[Any]:
    """Records of a split. Raises DataNotFoundError, also if there are none."""
    records = self.task.source(split, self._data_dir)
    if not len(records):
      raise DataNotFoundError(
        f'The split {split!r} is empty: data.dir={self._data_dir!r} and the'
        " config's task leave no record for it."
      )
    return records

  @property
  def _data_dir(self) -> str | None:
    return self.config.data.get('dir')

  @functools.cached_property
  def class_names(self) -> Sequence[str]:
    """Names of the classes; their numbers if the data does not name them."""
    try:
      names = self.task.class_names(self._data_dir)
    except DataNotFoundError:
      names = []
    if len(names) != self.task.num_classes:
      return [str(i) for i in range(self.task.num_classes)]
    return names


def total_steps(config: ConfigDict, task: Task) -> int:
  """Returns `train.steps`, or `train.epochs` in steps, rounded up."""
  if config.train.steps is not None:
    return config.train.steps
  if config.train.epochs is None:
    raise ValueError('train.steps and train.epochs are both None: give one.')
  num_examples = task.num_examples(task.train_split)
  return math.ceil(config.train.epochs * num_examples / config.train.batch_size)


def create(config: ConfigDict, mesh: Mesh | None = None) -> Experiment:
  """Checks a config and builds its objects.

  Args:
    config: as from a config file. Its paths are resolved in it.
    mesh: devices to run on; by default all of them, as the config says.

  Returns:
    The experiment. Its data is not opened yet.

  Raises:
    OSError: if JAX has no device.
    ValueError: if the config is wrong; names the key.
  """
  config_checks.resolve_paths(config)
  config_checks.check_keys(config)
  task = benchmarks.create(**config.task)
  config_checks.check(config, task)
  if mesh is None:
    mesh = sharding.make_mesh(config.train.model_parallel)
  config_checks.check_batch_sizes(config, mesh)
  steps = total_steps(config, task)
  optimizer, schedule = optimizers.create(steps, **config.optimizer)
  forward = models.transform_model(config, task, mesh)

  def init_state(key: jax.Array) -> TrainState:
    batch = {
      name: jnp.zeros(x.shape, x.dtype)
      for name, x in task.batch_spec(1).items()
    }
    params, model_state = forward.init(key, batch, True)
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, model_state, optimizer.init(params))

  shapes = jax.eval_shape(lambda: init_state(jax.random.key(0)))
  profiling.parse_steps(config.train.profile_steps, steps)
  return Experiment(
    config,
    task,
    forward,
    mesh,
    steps,
    schedule,
    optimizer,
    init_state,
    shapes,
  )
