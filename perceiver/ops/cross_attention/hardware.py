"""Facts about the hardware, which decide how attention is computed on it.

Operations are scarce on a CPU; memory traffic is on a GPU or TPU, where a
matrix product is nearly free compared with reading its operands.

A comment beside each number says how it is known: *measured* on such hardware,
*published* by its maker, or *estimated*, by a compiler or by hand. What was
*chosen* bounds something. Nothing was measured on a GPU or TPU.
"""

from collections.abc import Callable, Mapping
import dataclasses
import types
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from perceiver.ops import self_attention_gpu, self_attention_tpu
from perceiver.ops.cross_attention.kernels import gpu, tpu


@dataclasses.dataclass(frozen=True)
class Hardware:
  """Facts about a platform."""

  platform: str  # As in `jax.Device.platform`.
  # Matrix operations (bfloat16) in the time it takes to move a byte.
  operations_per_byte: float
  # How often a training step reads or writes an array as large as the float32
  # logits, by form; 'kernel': its time, in such passes.
  passes: Mapping[str, float]
  # Kernels' modules; None where there is none, or it is known to be no better.
  kernel: types.ModuleType | None  # For the forms without keys and values.
  # By `Perceiver.self_attention`; 'auto' has one that is known to be fastest.
  self_attention: Mapping[str, types.ModuleType]
  # Whether iterations are written out in training, instead of scanned over.
  unroll: bool
  # Logits in a tile of queries. With positions on a grid, which take many
  # passes, a tile stays on the chip; without, tiles only bound the memory.
  tile_logits_on_grid: int
  tile_logits: int
  # Wide content needs larger tiles for efficient matrix products.
  wide_factor: int = 1


# Estimated by XLA's cost analysis for v5e: bytes that the gradient of one
# cross-attention of the paper's size accesses, with batch 8 in bfloat16 (14.5,
# 7.4 and 17.7 GB), divided by the size of its float32 logits (0.82 GB).
_PASSES = {'plain': 17.6, 'no_kv': 9.0, 'factored': 21.5}
HARDWARE = {
  'cpu': Hardware(
    'cpu',
    # Chosen: products and passes cost the same, so only operations count.
    operations_per_byte=0.0,
    passes=dict.fromkeys(_PASSES, 0.0),
    kernel=None,
    self_attention={},
    # Measured: written out, it compiles for minutes and is no faster.
    unroll=False,
    # Chosen: float32 in a core's cache of 2 MB. Measured on two cores of an
    # Intel Xeon (00ef4d2): the gradient of ImageNet's cross-attention takes
    # 148, 135, 113 and 108 ms with tiles of 4, 8, 16 and 64 queries.
    tile_logits_on_grid=8 * 50_176,
    tile_logits=8 * 50_176,
    # Measured there: AudioSet's takes 254 and 198 ms with tiles of 30 and 256.
    wide_factor=16,
  ),
  'gpu': Hardware(  # H100 SXM.
    'gpu',
    # Published: NVIDIA's data sheet.
    operations_per_byte=989e12 / 3.35e12,
    # Estimated: `_PASSES` are v5e's. The kernel by hand: some 60 instructions
    # per logit, at half the rate of 132 multiprocessors.
    passes=_PASSES | {'kernel': 3.0},
    kernel=gpu,
    self_attention={'cudnn': self_attention_gpu},  # Never timed.
    # Planned by the compiler: ImageNet's step without a scan takes 84 instead
    # of 74 GiB on each of 8 cards (128 images), 32 instead of 38 on one (64).
    unroll=False,
    # Estimated by hand: 16 MiB of float32, in a published L2 cache of 50 MB.
    tile_logits_on_grid=2**22,
    tile_logits=2**29,  # Chosen: 2 GiB.
  ),
  'tpu': Hardware(  # v5e.
    'tpu',
    # Published: Google Cloud's documentation.
    operations_per_byte=197e12 / 819e9,
    # Estimated: `_PASSES`; the kernel by its bundles (`scripts.plan`), 7,540
    # cycles at 1.5 GHz for 512 x 896 logits.
    passes=_PASSES | {'kernel': 2.2},
    kernel=tpu,
    # Estimated for an image and a head, forward and backward: 4,686 cycles by
    # the kernel's bundles, 26,385 by the compiler for the plain form.
    self_attention=dict.fromkeys(('auto', 'mosaic'), self_attention_tpu),
    # Estimated by the compiler: a scan's copies take a sixth of a step.
    unroll=True,
    # Estimated by the compiler, for 8 examples of ImageNet: 63, 28 and 40
    # million cycles with tiles of 4, 8 and 16 queries.
    tile_logits_on_grid=2**22,
    tile_logits=2**29,  # Chosen: 2 GiB.
  ),
}
# The kernels multiply bfloat16, which Mosaic does not support there.
_NO_KERNEL = ('TPU v2', 'TPU v3')
# Measured: to compile ImageNet's step without a scan takes 19 GB of the host's
# memory and more for v4, 4 GB for v5e. For v2 and v3 it was not tried.
_SCANS = ('TPU v2', 'TPU v3', 'TPU v4')


def of(mesh: Mesh | None) -> Hardware:
  """Returns the facts about a mesh's devices; without a mesh, JAX's own.

  Without a mesh and with several devices there is no kernel, because no
  compiler splits one over devices.
  """
  device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
  hardware = HARDWARE.get(device.platform, HARDWARE['gpu'])
  if (
    device.platform not in HARDWARE
    or device.device_kind in _NO_KERNEL
    or (mesh is None and jax.device_count() > 1)
  ):
    hardware = dataclasses.replace(hardware, kernel=None, self_attention={})
  if device.device_kind in _SCANS:
    hardware = dataclasses.replace(hardware, unroll=False)
  return hardware


def on_each_device(
  function: Callable[..., Any], mesh: Mesh | None
) -> Callable[..., Any]:
  """Makes each device apply a function to its own examples.

  Args:
    function: from trees of arrays [B, ...] to such a tree.
    mesh: its axis 'data' splits B; None: one device.

  Returns:
    The function for arrays that are split over the devices.
  """
  if mesh is None or mesh.size == 1:
    return function

  def split(*arguments):
    batch = jax.tree.leaves(arguments)[0].shape[0]
    # Only initialisation, for shapes, has a batch that cannot be split.
    splits = batch % mesh.shape['data'] == 0
    spec = PartitionSpec('data') if splits else PartitionSpec()
    return jax.shard_map(
      function,
      mesh=mesh,
      in_specs=spec,
      out_specs=spec,
      check_vma=False,  # Kernels do not say what varies over the mesh.
    )(*arguments)

  return split
