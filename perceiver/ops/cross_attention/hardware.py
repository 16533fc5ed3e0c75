"""Facts of the hardware that decide how cross-attention is computed on it.

What is scarce differs: operations on a CPU, memory traffic on a GPU or TPU,
where a matrix product is nearly free beside reading its operands.
"""

from collections.abc import Callable, Mapping
import dataclasses
import types
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from perceiver.ops import self_attention_tpu
from perceiver.ops.cross_attention.kernels import gpu, tpu


@dataclasses.dataclass(frozen=True)
class Hardware:
  """What is known of a platform."""

  platform: str  # As of `jax.Device.platform`.
  # Matrix operations (bfloat16) in the time that it takes to move a byte.
  operations_per_byte: float
  # How often a training step reads or writes an array of the size of the
  # logits, float32, by form; 'kernel': time that is worth as many passes.
  passes: Mapping[str, float]
  # Modules; None if there is none, or it is known to be no better.
  kernel: types.ModuleType | None  # Of the forms without keys and values.
  self_attention: types.ModuleType | None
  # Logits that a tile of rows may have: with positions on a grid, which need
  # many passes, a tile stays on the chip; without, tiles only bound memory.
  tile_logits_on_grid: int
  tile_logits: int
  # Wide content needs more rows in a tile, for matrix products to pay.
  wide_factor: int = 1


# Bytes accessed by the gradient of one cross-attention of the paper's size,
# batch 8, bfloat16, as XLA's cost analysis for v5e counts (14.5, 7.4, 17.7 GB),
# over those of its float32 logits (0.82 GB).
_PASSES = {'plain': 17.6, 'no_kv': 9.0, 'factored': 21.5}
HARDWARE = {
  # Products and passes cost alike: operations alone are counted. A tile stays
  # in a core's cache of 2 MB.
  'cpu': Hardware(
    'cpu',
    operations_per_byte=0.0,
    passes=dict.fromkeys(_PASSES, 0.0),
    kernel=None,
    self_attention=None,
    tile_logits_on_grid=8 * 50_176,
    tile_logits=8 * 50_176,
    wide_factor=16,
  ),
  # H100 SXM, NVIDIA's data sheet: 989 TFLOP/s, 3.35 TB/s; L2 cache 50 MB. The
  # kernel was never timed: some 60 instructions for a logit at half the rate of
  # 132 multiprocessors are 3 passes. Compiled, it spills no register.
  'gpu': Hardware(
    'gpu',
    operations_per_byte=989e12 / 3.35e12,
    passes=_PASSES | {'kernel': 3.0},
    kernel=gpu,
    self_attention=None,
    tile_logits_on_grid=2**22,
    tile_logits=2**29,
  ),
  # v5e, Google's documentation: 197 TFLOP/s, 819 GB/s, 1.5 GHz. The kernel
  # takes 7,240 cycles for 512 x 896 logits, see `scripts.plan`: 2.2 passes. At
  # 8 examples of ImageNet the compiler estimates 63, 28 and 40 million cycles
  # with tiles of 4, 8 and 16 rows.
  'tpu': Hardware(
    'tpu',
    operations_per_byte=197e12 / 819e9,
    passes=_PASSES | {'kernel': 2.2},
    kernel=tpu,
    self_attention=self_attention_tpu,
    tile_logits_on_grid=2**22,
    tile_logits=2**29,
  ),
}
# Mosaic takes no bfloat16 operands there, which the kernels multiply.
_NO_KERNEL = ('TPU v2', 'TPU v3')


def of(mesh: Mesh | None) -> Hardware:
  """The facts of a mesh's devices; None: of JAX's own.

  Without a mesh there are kernels for a single device only, because no compiler
  splits one over several.
  """
  device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
  hardware = HARDWARE.get(device.platform, HARDWARE['gpu'])
  if (
    device.platform not in HARDWARE
    or device.device_kind in _NO_KERNEL
    or (mesh is None and jax.device_count() > 1)
  ):
    hardware = dataclasses.replace(hardware, kernel=None, self_attention=None)
  return hardware


def on_each_device(
  function: Callable[..., Any], mesh: Mesh | None
) -> Callable[..., Any]:
  """Lets each device do it for the examples that it has.

  Args:
    function: of trees of arrays [B, ...], to such a tree.
    mesh: whose axis 'data' splits B; None: one device.

  Returns:
    The same function of arrays over all devices.
  """
  if mesh is None or mesh.size == 1:
    return function

  def split(*arguments):
    batch = jax.tree.leaves(arguments)[0].shape[0]
    # A batch that cannot be split is that of shapes alone: an initialisation.
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
