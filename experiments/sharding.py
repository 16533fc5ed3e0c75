"""One code path from one CPU to a TPU pod: a mesh and named shardings.

The mesh has two axes: the batch is split over `data`, and the weights are split
over `model` if a config asks for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from experiments.errors import explaining_no_device


def make_mesh(
  model_parallel: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Returns a mesh [data, model] of all devices, or of the given ones.

  Raises:
    OSError: if JAX has no device.
    ValueError: if the devices of a process cannot be dealt into groups of
      `model_parallel`.
  """
  if devices is None:
    with explaining_no_device():
      devices = jax.devices()
  local = len(devices) // jax.process_count()
  if model_parallel < 1 or local % model_parallel:
    raise ValueError(
      f'train.model_parallel={model_parallel} does not divide the'
      f' {local} device(s) of each process.'
    )
  shape = (len(devices) // model_parallel, model_parallel)
  # Haiku needs automatic axes: its layers fail on explicitly sharded ones.
  return Mesh(
    np.asarray(devices).reshape(shape),
    ('data', 'model'),
    axis_types=(AxisType.Auto,) * 2,
  )


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns a sharding that splits the leading axis over `data`."""
  return NamedSharding(mesh, PartitionSpec('data'))


def state_shardings(mesh: Mesh, state: Any) -> Any:
  """Returns the shardings of a state's shapes on a mesh [data, model].

  The last axis of matrices is split over `model`, the rest is replicated.
  Optimizer moments are split as their weights are.
  """
  size = mesh.shape['model']

  def sharding(x: jax.ShapeDtypeStruct) -> NamedSharding:
    if size == 1 or x.ndim < 2 or x.shape[-1] % size:
      return replicated(mesh)
    axes = (None,) * (x.ndim - 1) + ('model',)
    return NamedSharding(mesh, PartitionSpec(*axes))

  return jax.tree.map(sharding, state)


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
  """Puts this process's share of a batch into global arrays [B, ...]."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, x)
    for name, x in batch.items()
  }
