"""A config's model as functions, its shapes and its costs."""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from experiments import benchmarks
from experiments.task import Batch, Task
import perceiver
from perceiver import baselines, cost, modalities

MODELS: dict[str, Callable[..., hk.Module]] = {
  'perceiver': perceiver.Perceiver,
  'resnet': baselines.ResNet,
  'vit': baselines.VisionTransformer,
  'transformer': baselines.Transformer,
}


def byte_array(
  task: Task, batch: Batch, mesh: Mesh | None = None
) -> perceiver.ByteArray:
  """The model's input; may have parameters, so call it in a transform."""
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

  They have the parameters of `transform_model`. They return each cross-attend's
  queries and the byte array, which `perceiver.attention_maps` takes.

  Raises:
    ValueError: if the model is not a Perceiver.
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
  """Shapes of the parameters and of an example's input; allocates nothing."""
  task = benchmarks.create(**config.task)
  init = lambda key, batch: transform_model(config, task).init(key, batch, True)
  params, _ = jax.eval_shape(init, jax.random.key(0), task.batch_spec(1))
  return params, input_shapes(config)


def input_shapes(config: ConfigDict) -> perceiver.ByteArray:
  """Shapes of the byte array of one example; faster than `model_shapes`."""
  task = benchmarks.create(**config.task)
  inputs = hk.transform(lambda batch: byte_array(task, batch))
  apply = lambda key, batch: inputs.apply(inputs.init(key, batch), key, batch)
  return jax.eval_shape(apply, jax.random.key(0), task.batch_spec(1))


def forward_flops(config: ConfigDict) -> int:
  """FLOPs of a forward pass of one example, by the paper's rule.

  A Perceiver's are computed from its config, whatever the form of its
  cross-attention; a baseline's are counted in its traced program.
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
