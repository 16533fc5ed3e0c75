"""Hardware that one does not have, as the compilers know it.

TPUs by the compiler's own topology names. GPUs by a description of the card;
the figures are those of openxla/xla, xla/backends/gpu/target_config/specs.
"""

from collections.abc import Sequence
import dataclasses
import math
import re
from typing import Any

import jax
from jax.experimental import topologies

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Tpu:
  """Of a device: a chip, on v3 one of its two cores."""

  memory: int  # Bytes.
  clock_ghz: float
  example: str  # A topology, for those who misspell one.
  devices_per_chip: int = 1
  cores: int = 1  # Of a device; they share a kernel's examples.
  options: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Gpu:
  """What the compiler wants to know of a card."""

  name: str
  compute_capability: int  # Major.
  cores: int  # Multiprocessors.
  fpus_per_core: int
  bandwidth: int  # Bytes a second.
  l2_cache: int
  clock_ghz: float
  memory: int  # Bytes.
  shared_memory: int  # Of a multiprocessor; a block may take all but 1 KiB.

  @property
  def architecture(self) -> str:
    """As ptxas calls it."""
    return f'sm_{self.compute_capability}0' + 'a' * self.is_accelerated

  @property
  def is_accelerated(self) -> bool:
    """Whether it has instructions that later cards need not have."""
    return self.compute_capability >= 9

  def description(self) -> str:
    """GpuTargetConfigProto in text format."""
    extension = 'ACCELERATED_FEATURES' if self.is_accelerated else 'NONE'
    return f"""
      gpu_device_info {{
        threads_per_block_limit: 1024
        threads_per_warp: 32
        threads_per_core_limit: 2048
        thread_dim_limit_x: 1024
        thread_dim_limit_y: 1024
        thread_dim_limit_z: 64
        block_dim_limit_x: 2147483647
        block_dim_limit_y: 65535
        block_dim_limit_z: 65535
        registers_per_core_limit: {REGISTERS}
        registers_per_block_limit: {REGISTERS}
        shared_memory_per_block: 49152
        shared_memory_per_block_optin: {self.shared_memory - 1024}
        shared_memory_per_core: {self.shared_memory}
        core_count: {self.cores}
        fpus_per_core: {self.fpus_per_core}
        memory_bandwidth: {self.bandwidth}
        l2_cache_size: {self.l2_cache}
        clock_rate_ghz: {self.clock_ghz}
        device_memory_size: {self.memory}
        cuda_compute_capability {{
          major: {self.compute_capability}
          feature_extension: {extension}
        }}
      }}
      platform_name: "CUDA"
      dnn_version_info {{ major: 9 minor: 1 }}
      device_description_str: "{self.name}"
    """


REGISTERS = 65536  # Of a multiprocessor, on all of these cards.
# Clocks of v3 and v4: Jouppi et al., "TPU v4" (ISCA 2023), table 4. Of the
# others they follow from the peak that Google gives, in bfloat16: 197, 459 and
# 918 TFLOP/s are 2 FLOPs for each cell of 4 and 8 units of 128 x 128 and 4 of
# 256 x 256. v4 takes a chip's two cores for one device only if it is told to.
TPUS = {
  'v3': Tpu(16 * GIB, 0.94, '4x4', devices_per_chip=2),
  'v4': Tpu(
    32 * GIB,
    1.05,
    '2x2x4',
    cores=2,
    options={'chip_config_name': 'megacore'},
  ),
  'v5e': Tpu(16 * GIB, 1.5, '8x8'),
  'v5p': Tpu(95 * GIB, 1.75, '2x2x4', cores=2),
  'v6e': Tpu(32 * GIB, 1.75, '8x8'),
}
GPUS = {
  'a100': Gpu(
    name='NVIDIA A100-SXM4-80GB',
    compute_capability=8,
    cores=108,
    fpus_per_core=64,
    bandwidth=2039040000000,
    l2_cache=41943040,
    clock_ghz=1.41,
    memory=85100068864,
    shared_memory=167936,
  ),
  'h100': Gpu(
    name='NVIDIA H100 80GB HBM3',
    compute_capability=9,
    cores=132,
    fpus_per_core=128,
    bandwidth=3352320000000,
    l2_cache=52428800,
    clock_ghz=1.98,
    memory=84942979072,
    shared_memory=233472,
  ),
  'h200': Gpu(
    name='NVIDIA H200 141GB HBM3e',
    compute_capability=9,
    cores=132,
    fpus_per_core=128,
    bandwidth=4800000000000,
    l2_cache=52428800,
    clock_ghz=1.98,
    memory=151397597184,
    shared_memory=233472,
  ),
  'b200': Gpu(
    name='NVIDIA B200',
    compute_capability=10,
    cores=148,
    fpus_per_core=128,
    bandwidth=7672320000000,
    l2_cache=132644864,
    clock_ghz=1.965,
    memory=191514411008,
    shared_memory=233472,
  ),
}


@dataclasses.dataclass(frozen=True)
class Target:
  """A kind of device and how many there are, or how they are connected."""

  kind: str
  size: str  # '8x8' of a TPU, '8' of GPUs.

  def __str__(self) -> str:
    return f'{self.kind}:{self.size}'

  @property
  def hardware(self) -> Tpu | Gpu:
    return TPUS[self.kind] if self.kind in TPUS else GPUS[self.kind]

  @property
  def platform(self) -> str:
    return 'tpu' if self.kind in TPUS else 'gpu'


def parse(text: str) -> Target:
  """'v5e:8x8' or 'h100:8'. Raises ValueError with what there is."""
  kind, _, size = text.partition(':')
  pattern = r'[1-9]\d*(x[1-9]\d*)+' if kind in TPUS else r'[1-9]\d*'
  if kind in {*TPUS, *GPUS} and re.fullmatch(pattern, size):
    return Target(kind, size)
  examples = [f'{kind}:{tpu.example}' for kind, tpu in TPUS.items()]
  examples += [f'{kind}:8' for kind in GPUS]
  raise ValueError(
    f'--target={text} is no topology and no number of GPUs, such as'
    f' {", ".join(examples)}.'
  )


def devices(target: Target) -> Sequence[jax.Device]:
  """Devices to compile for.

  Raises:
    ValueError: if the compiler knows no such topology.
  """
  hardware = target.hardware
  options: dict[str, Any]
  if isinstance(hardware, Tpu):
    name, platform, options = str(target), 'tpu', dict(hardware.options)
    if math.prod(map(int, target.size.split('x'))) == 1:
      options['chips_per_host_bounds'] = (1, 1, 1)  # Else a host has four.
  else:
    name, platform = f'1x1x{target.size}', 'cuda'
    options = {'topology': name, 'target_config': hardware.description()}
  try:
    topology = topologies.get_topology_desc(name, platform=platform, **options)
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f'--target={target}: {error}') from error
  return topology.devices
