"""A config, checked and made into the objects that a run consists of.

Everything that can be wrong with a config is found here, in seconds, before
anything is compiled or written.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict
import optax

from experiments import benchmarks, optimizers, profiling, sharding, storage
from experiments.errors import DataNotFoundError
from experiments.task import Batch, Task
import perceiver
from perceiver import baselines, cost, modalities, ranges
from perceiver.ranges import (
  Count,
  CountOrZero,
  Fraction,
  Positive,
  PositiveOrZero,
  Range,
)

MODELS: dict[str, Callable[..., hk.Module]] = {
  'perceiver': perceiver.Perceiver,
  'resnet': baselines.ResNet,
  'vit': baselines.VisionTransformer,
  'transformer': baselines.Transformer,
}


# Keys whose values are paths.
PATHS = ('data.dir', 'train.init_from', 'train.compilation_cache')


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
  """What a config has beside its sections."""

  seed: Annotated[int, Range('[0, 4294967295]')]  # 32 bits.


class TrainState(NamedTuple):
  """All that a training step reads and writes."""

  step: Any  # Scalar int32: steps done.
  params: Any
  model_state: Any  # Haiku's state, such as batch norm's averages.
  opt_state: Any


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What training and evaluation share."""

  config: ConfigDict  # As `resolve_paths` leaves it.
  task: Task
  forward: hk.TransformedWithState  # (batch, is_training) -> [B, classes]
  mesh: Mesh
  total_steps: int
  schedule: optax.Schedule
  optimizer: optax.GradientTransformation
  init_state: Callable[[jax.Array], TrainState]  # From a random key.
  state_shapes: TrainState
  # What `made_once` has made for it.
  programs: dict[Any, Any] = dataclasses.field(
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
    """What people call the classes; numbers where no data tells."""
    try:
      names = self.task.class_names(self._data_dir)
    except DataNotFoundError:
      names = []
    if len(names) != self.task.num_classes:
      return [str(i) for i in range(self.task.num_classes)]
    return names


_Program = TypeVar('_Program')


def made_once(
  make: Callable[[Experiment], _Program],
) -> Callable[[Experiment], _Program]:
  """Lets a function of an experiment return the same jitted function again.

  So a run that is trained, gone on with and evaluated in one process, as in a
  notebook, is traced and compiled once.
  """

  @functools.wraps(make)
  def made(experiment: Experiment) -> _Program:
    if make not in experiment.programs:
      experiment.programs[make] = make(experiment)
    return experiment.programs[make]

  return made


def byte_array(
  task: Task, batch: Batch, mesh: Mesh | None = None
) -> perceiver.ByteArray:
  """The model's input; may have parameters (runs inside a transform)."""
  return modalities.byte_array(task.modalities, batch, mesh=mesh)


def transform_model(
  config: ConfigDict, task: Task, mesh: Mesh | None = None
) -> hk.TransformedWithState:
  """The model as a pair of functions of (batch, is_training)."""
  arguments = dict(config.model)
  if config.model.name == 'perceiver':
    arguments['mesh'] = mesh

  def forward(batch: Batch, is_training: bool) -> jax.Array:
    model: Any = MODELS[config.model.name](**arguments)
    return model(byte_array(task, batch, mesh), is_training)

  return hk.transform_with_state(forward)


def transform_attention(
  config: ConfigDict, task: Task, mesh: Mesh | None = None
) -> hk.TransformedWithState:
  """The Perceiver's attention, as a pair of functions of a batch.

  It has the parameters of `transform_model`, and gives each cross-attend's
  queries and the byte array: what `perceiver.attention_maps` takes.

  Raises:
    ValueError: if the model is no Perceiver.
  """
  if config.model.name != 'perceiver':
    raise ValueError(
      f'model.name={config.model.name!r} has no cross-attention, so no maps.'
    )

  def forward(batch: Batch):
    inputs = byte_array(task, batch, mesh)
    model = perceiver.Perceiver(**config.model, mesh=mesh)
    return model.attention_queries(inputs), inputs

  return hk.transform_with_state(forward)


def model_shapes(config: ConfigDict) -> tuple[Any, perceiver.ByteArray]:
  """Shapes of a config's parameters and input; allocates nothing.

  Args:
    config: as from a config file.

  Returns:
    The parameters' tree and the byte array of one example, as shapes.
  """
  task = benchmarks.create(**config.task)
  init = lambda key, batch: transform_model(config, task).init(key, batch, True)
  params, _ = jax.eval_shape(init, jax.random.key(0), task.batch_spec(1))
  return params, input_shapes(config)


def input_shapes(config: ConfigDict) -> perceiver.ByteArray:
  """As `model_shapes`, of the input alone, which takes less time."""
  task = benchmarks.create(**config.task)
  inputs = hk.transform(lambda batch: byte_array(task, batch))
  apply = lambda key, batch: inputs.apply(inputs.init(key, batch), key, batch)
  return jax.eval_shape(apply, jax.random.key(0), task.batch_spec(1))


def forward_flops(config: ConfigDict) -> int:
  """FLOPs of a forward pass of one example, by the paper's rule.

  The Perceiver's follow from its config, whatever the form of its
  cross-attention; a baseline's from its traced program.
  """
  if config.model.name == 'perceiver':
    inputs = input_shapes(config)
    return cost.perceiver_flops(
      config.model, inputs.num_elements, inputs.num_channels
    )
  task = benchmarks.create(**config.task)
  forward = transform_model(config, task)
  batch = task.batch_spec(1)
  params, state = jax.eval_shape(
    lambda key, batch: forward.init(key, batch, True), jax.random.key(0), batch
  )
  logits = lambda p, s, b: forward.apply(p, s, None, b, False)[0]
  return cost.program_flops(jax.make_jaxpr(logits)(params, state, batch).jaxpr)


def make_init_state(
  forward: hk.TransformedWithState,
  optimizer: optax.GradientTransformation,
  task: Task,
) -> Callable[[jax.Array], TrainState]:
  """A traceable function from a random key to a fresh state."""

  def init_state(key: jax.Array) -> TrainState:
    batch = {
      name: jnp.zeros(x.shape, x.dtype)
      for name, x in task.batch_spec(1).items()
    }
    params, model_state = forward.init(key, batch, True)
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, params, model_state, optimizer.init(params))

  return init_state


def total_steps(config: ConfigDict, task: Task) -> int:
  """`train.steps`, or `train.epochs` in steps, rounded up."""
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
    ValueError: what is wrong with the config, and which key it is.
  """
  resolve_paths(config)
  try:
    task = benchmarks.create(**config.task)
    if config.model.name not in MODELS:
      raise ValueError(
        f'model.name={config.model.name!r} is none of {sorted(MODELS)}.'
      )
    if config.model.num_classes != task.num_classes:
      raise ValueError(
        f'model.num_classes={config.model.num_classes}, but the task'
        f' {config.task.name!r} has {task.num_classes} classes.'
      )
    _check_ranges(config)
    if mesh is None:
      mesh = sharding.make_mesh(config.train.model_parallel)
    _check_batch_sizes(config, mesh)
    if config.eval.checkpoint not in ('latest', 'best'):
      raise ValueError(
        f'eval.checkpoint={config.eval.checkpoint!r} is neither'
        " 'latest' nor 'best'."
      )
    steps = total_steps(config, task)
    optimizer, schedule = optimizers.create(steps, **config.optimizer)
    forward = transform_model(config, task, mesh)
    init_state = make_init_state(forward, optimizer, task)
    shapes = jax.eval_shape(lambda: init_state(jax.random.key(0)))
    profiling.parse_steps(config.train.profile_steps, steps)
  except TypeError as error:  # A section with a key that no argument has.
    raise ValueError(f'Bad config: {error}') from error
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


def resolve_paths(config: ConfigDict) -> None:
  """Expands the `~` of a config's paths, in place.

  An empty data.dir is left: it fails when data is read.

  Raises:
    ValueError: if another path is empty, or there is no such user.
  """
  for key in PATHS:
    section, _, name = key.partition('.')
    path = config[section].get(name)
    if path == 'None':  # As a command line says it.
      config[section][name] = None
    elif path is not None and (path or key != 'data.dir'):
      config[section][name] = storage.expand(path, key)


def _check_batch_sizes(config: ConfigDict, mesh: Mesh) -> None:
  devices = mesh.shape['data']
  for key, size, parts, what in (
    (
      'train.batch_size',
      config.train.batch_size,
      devices * config.train.accumulate,
      f'{devices} device(s) x train.accumulate={config.train.accumulate}',
    ),
    ('eval.batch_size', config.eval.batch_size, devices, f'{devices} devices'),
  ):
    if size % parts:
      raise ValueError(f'{key}={size} is not divisible by {what}.')


def _check_ranges(config: ConfigDict) -> None:
  """All but the task's, which it checks itself."""
  ranges.check(Seed, {'seed': config.seed})
  for section, annotated in (
    ('data', Data),
    ('model', MODELS[config.model.name]),
    ('optimizer', optimizers.create),
    ('optimizer', optimizers.learning_rate_schedule),
    ('train', Train),
    ('eval', Eval),
  ):
    ranges.check(annotated, config[section], f'{section}.')
