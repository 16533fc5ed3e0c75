"""Prepares the steps to time: of a model or a part of it, on random input."""

from collections.abc import Callable
import dataclasses
import time
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments import experiment, models, sharding, train_step
import perceiver
from perceiver import cost
from perceiver.ops import cross_attention


@dataclasses.dataclass(frozen=True)
class Contender:
  """A model or part, and the mode to time it in."""

  name: str
  mode: str
  batch_size: int
  part: str
  config: dict[str, Any]  # With the form of attention, unless it is a peer.
  peer: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A step that is ready to be timed."""

  step: Callable[[], None]  # Blocks until the step is done.
  parameters: int
  flops: float  # Per step, as the paper counts; a backward pass is 2 forward.
  compile_s: float
  compiler_bytes: int | None  # The peak memory planned by the compiler.
  note: str = ''


def _random(spec: Any) -> Any:
  """Draws arrays for a tree of shapes; integers are small enough for labels."""
  rng = np.random.default_rng(0)

  def draw(x):
    if x.dtype == jnp.bool_:
      return np.ones(x.shape, bool)
    if jnp.issubdtype(x.dtype, jnp.integer):
      return rng.integers(10, size=x.shape).astype(x.dtype)
    return rng.normal(size=x.shape).astype(x.dtype)

  return jax.tree.map(draw, spec)


def _compile(function: Any, *arguments: Any) -> tuple[Any, float, int]:
  start = time.perf_counter()
  compiled = function.lower(*arguments).compile()
  memory = compiled.memory_analysis()
  planned = (
    memory.temp_size_in_bytes
    + memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )
  return compiled, time.perf_counter() - start, planned


def one_device() -> jax.sharding.Mesh:
  return sharding.make_mesh(1, jax.devices()[:1])


def on_one_device(config: ConfigDict) -> experiment.Experiment:
  """Returns a config's experiment. Raises ValueError for a bad config."""
  return experiment.create(config, one_device())


def _prepare_model(contender: Contender, config: ConfigDict) -> Prepared:
  run = on_one_device(config)
  is_training = contender.mode == 'train'
  spec = run.task.train_batch_spec if is_training else run.task.batch_spec
  batch = jax.device_put(_random(spec(contender.batch_size)))
  state = jax.jit(run.init_state)(jax.random.key(0))
  flops = contender.batch_size * models.forward_flops(config)
  parameters = cost.count_parameters(state.params)
  if is_training:
    compiled, seconds, planned = _compile(
      train_step.make_train_step(run), state, batch
    )
    carried = {'state': state}  # Donated to each step.

    def step():
      carried['state'], metrics = compiled(carried['state'], batch)
      jax.block_until_ready((carried['state'], metrics))

    return Prepared(step, parameters, 3 * flops, seconds, planned)

  def forward(params, batch):
    return run.forward.apply(params, state.model_state, None, batch, False)[0]

  compiled, seconds, planned = _compile(jax.jit(forward), state.params, batch)
  step = lambda: jax.block_until_ready(compiled(state.params, batch))
  return Prepared(step, parameters, flops, seconds, planned)


def _prepare_cross_attention(
  contender: Contender, config: ConfigDict
) -> Prepared:
  """Prepares a cross-attention, from queries and byte array to its output."""
  run = on_one_device(config)
  model, dtype = config.model, jnp.dtype(config.model.compute_dtype)
  shapes = models.input_shapes(config)
  c, m = shapes.num_channels, shapes.num_elements
  heads = model.cross_attend_heads
  channels = model.cross_attend_channels or min(c, model.latent_channels)
  rows = (contender.batch_size, model.num_latents, heads, channels // heads)
  shaped: Any = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  parameters = cross_attention.Parameters(
    scale=shaped(c),
    offset=shaped(c),
    key_w=shaped(c, channels),
    key_b=shaped(channels),
    value_w=shaped(c, channels),
    value_b=shaped(channels),
  )
  arrays = jax.device_put(_random((shaped(*rows), parameters)))
  batch = jax.device_put(_random(run.task.batch_spec(contender.batch_size)))

  @hk.transform
  def prepare_inputs(batch):
    byte_array = models.byte_array(run.task, batch, run.mesh)
    return perceiver.Perceiver(**model, mesh=run.mesh).prepare(byte_array)

  # Jitted, so that only parameters are computed: peak memory is measured.
  encodings = jax.jit(prepare_inputs.init)(jax.random.key(0), batch)

  def forward(arrays, batch):
    inputs = prepare_inputs.apply(encodings, None, batch)
    query, parameters = arrays
    return cross_attention.cross_attend(query.astype(dtype), inputs, parameters)

  flops = contender.batch_size * (
    cost.attention_flops(
      model.num_latents, model.latent_channels, m, c, channels, heads
    )
    # Without the layers that make queries and output of the latents.
    - 2 * 2 * model.num_latents * model.latent_channels * channels
  )
  function = forward
  if contender.mode == 'train':
    flops *= 3
    function = jax.grad(lambda a, b: jnp.sum(jnp.square(forward(a, b))))
  compiled, seconds, planned = _compile(jax.jit(function), arrays, batch)
  step = lambda: jax.block_until_ready(compiled(arrays, batch))
  count = cost.count_parameters(parameters)
  return Prepared(step, count, flops, seconds, planned)


def prepare(contender: Contender) -> Prepared:
  """Builds and compiles the step of one of our own contenders."""
  config = ConfigDict(contender.config)
  if contender.part == 'model':
    return _prepare_model(contender, config)
  return _prepare_cross_attention(contender, config)
