"""Checks of a config's values, before anything is made of them."""

from collections.abc import Callable, Mapping
import inspect
from typing import Annotated, Any, TypedDict

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from experiments import benchmarks, optimizers, storage
from experiments.models import MODELS
from experiments.task import Task
from perceiver import ranges
from perceiver.ranges import (
  Count,
  CountOrZero,
  Fraction,
  Positive,
  PositiveOrZero,
  Range,
)

PATHS = ('data.dir', 'train.init_from', 'train.compilation_cache')  # Keys.


class Data(TypedDict):
  """Numbers of a config's `data` section."""

  num_workers: CountOrZero
  max_damaged: Fraction


class Train(TypedDict):
  """Numbers of a config's `train` section."""

  batch_size: Count
  epochs: Positive | None
  steps: Count | None
  accumulate: Count
  log_every: Count
  eval_every: Count
  checkpoint_every: Count
  keep_checkpoints: Count
  model_parallel: Count
  max_skipped_steps: CountOrZero
  watchdog_seconds: PositiveOrZero
  watchdog_compile_seconds: PositiveOrZero
  watchdog_restore_seconds: PositiveOrZero


class Eval(TypedDict):
  """Numbers of a config's `eval` section."""

  batch_size: Count


class Seed(TypedDict):
  """The number of a config that is in no section."""

  seed: Annotated[int, Range('[0, 4294967295]')]  # 32 bits.


def check_keys(config: ConfigDict) -> None:
  """Raises ValueError if a section lacks a key, or has one that nothing takes.

  The keys of `model`, `task` and `optimizer` are arguments.
  """
  if config.model.name not in MODELS:
    raise ValueError(
      f'model.name={config.model.name!r} is none of {sorted(MODELS)}.'
    )
  _bind('model', MODELS[config.model.name], config.model)
  _bind('task', benchmarks.create, config.task)
  task = dict(config.task)
  _bind('task', benchmarks.find(task.pop('name')), task)
  optimizer = inspect.signature(optimizers.create).parameters
  schedule = {k: v for k, v in config.optimizer.items() if k not in optimizer}
  steps = {'total_steps': 0}
  _bind('optimizer', optimizers.create, steps | dict(config.optimizer))
  _bind('optimizer', optimizers.learning_rate_schedule, steps | schedule)


def _bind(
  section: str, function: Callable[..., Any], settings: Mapping[str, Any]
) -> None:
  try:
    inspect.signature(function).bind(**settings)
  except TypeError as error:
    raise ValueError(f'Bad config: {section}: {error}.') from error


def check(config: ConfigDict, task: Task) -> None:
  """Raises ValueError for a value that is wrong on any devices."""
  dtype = config.model.get('compute_dtype', 'float32')  # Old configs lack it.
  try:
    jnp.dtype(dtype)
  except TypeError as error:
    raise ValueError(
      f'model.compute_dtype={dtype!r} is not a dtype.'
    ) from error
  if config.model.num_classes != task.num_classes:
    raise ValueError(
      f'model.num_classes={config.model.num_classes}, but the task'
      f' {config.task.name!r} has {task.num_classes} classes.'
    )
  ranges.check(Seed, {'seed': config.seed})
  for section, annotated in (  # `benchmarks.create` has checked `task`.
    ('data', Data),
    ('model', MODELS[config.model.name]),
    ('optimizer', optimizers.create),
    ('optimizer', optimizers.learning_rate_schedule),
    ('train', Train),
    ('eval', Eval),
  ):
    ranges.check(annotated, config[section], f'{section}.')
  if config.eval.checkpoint not in ('latest', 'best'):
    raise ValueError(
      f'eval.checkpoint={config.eval.checkpoint!r} is neither'
      " 'latest' nor 'best'."
    )


def resolve_paths(config: ConfigDict) -> None:
  """Expands the `~` of a config's paths, in place.

  An empty data.dir is left: it fails when data is read.

  Raises:
    ValueError: if another path is empty, or there is no such user.
  """
  for key in PATHS:
    section, _, name = key.partition('.')
    path = config[section].get(name)
    if path == 'None':  # None, as a command line writes it.
      config[section][name] = None
    elif path is not None and (path or key != 'data.dir'):
      config[section][name] = storage.expand(path, key)


def check_batch_sizes(config: ConfigDict, mesh: Mesh) -> None:
  """Raises ValueError for a batch that cannot be split over the devices."""
  devices = mesh.shape['data']
  train, accumulate = config.train.batch_size, config.train.accumulate
  if train % (devices * accumulate):
    raise ValueError(
      f'train.batch_size={train} is not divisible by {devices} device(s) x'
      f' train.accumulate={accumulate}.'
    )
  if config.eval.batch_size % devices:
    raise ValueError(
      f'eval.batch_size={config.eval.batch_size} is not divisible by'
      f' {devices} devices.'
    )
