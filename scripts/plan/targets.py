"""Describes hardware to the compilers.

TPUs have topology names that their compiler knows. GPUs need a description of
the card. No number here was measured: each is *published*, where its comment
says, or *derived* from such numbers.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import math
import re
from typing import Any
from unittest import mock

import jax
from jax._src.cudnn import fused_attention_stablehlo as cudnn_attention
from jax.experimental import topologies

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Tpu:
  """Facts of a device: a chip, or on v3 one of its two cores."""

  memory: int  # Bytes.
  clock_ghz: float
  example: str  # A topology, for the error message.
  devices_per_chip: int = 1
  cores: int = 1  # Per device; they share a kernel's examples.
  options: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Gpu:
  """Facts of a card that its compiler needs."""

  name: str
  compute_capability: int  # The major number.
  cores: int  # Multiprocessors.
  fpus_per_core: int
  bandwidth: int  # Bytes per second.
  l2_cache: int
  clock_ghz: float
  memory: int  # Bytes.
  shared_memory: int  # Per multiprocessor; a block may not use `RESERVED`.
  devices_per_chip: int = 1

  @property
  def architecture(self) -> str:
    """The name that ptxas has for it."""
    return f'sm_{self.compute_capability}0' + 'a' * self.is_accelerated

  @property
  def is_accelerated(self) -> bool:
    """Whether it has instructions that later cards may lack."""
    return self.compute_capability >= 9

  def description(self) -> str:
    """Returns a GpuTargetConfigProto in text format.

    Its limits are the same on all these cards. Published: openxla/xla, as
    `GPUS`.
    """
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
        shared_memory_per_block_optin: {self.shared_memory - RESERVED}
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
      dnn_version_info {{ major: {CUDNN[0]} minor: {CUDNN[1]} }}
      device_description_str: "{self.name}"
    """


# Per multiprocessor and per block, on all of these cards. Published: NVIDIA,
# CUDA C++ programming guide, compute capabilities.
REGISTERS = 65536
RESERVED = 1024  # Bytes.
# The oldest that JAX supports. Published: metadata of jax-cuda12-plugin.
CUDNN = (9, 8)
# Memory and cores. Published: Google Cloud's documentation of each TPU.
# Clocks of v3 and v4. Published: Jouppi et al., "TPU v4" (ISCA 2023), table 4.
# The other clocks are derived from Google's published peaks in bfloat16: 197,
# 459 and 918 TFLOP/s are 2 FLOPs per cycle and cell, of 4 and 8 units of
# 128 x 128 and 4 of 256 x 256.
# v4 treats a chip's two cores as one device only on request.
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
# Published: openxla/xla, xla/backends/gpu/target_config/specs.
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
  """A kind of device, with the number or topology of devices."""

  kind: str
  size: str  # '8x8' for TPUs, '8' for GPUs.

  def __str__(self) -> str:
    return f'{self.kind}:{self.size}'

  @property
  def hardware(self) -> Tpu | Gpu:
    return TPUS[self.kind] if self.kind in TPUS else GPUS[self.kind]

  @property
  def platform(self) -> str:
    return 'tpu' if self.kind in TPUS else 'gpu'


def parse(text: str) -> Target:
  """Parses 'v5e:8x8' or 'h100:8'. Raises ValueError for unknown targets."""
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


@contextlib.contextmanager
def with_cudnn() -> Iterator[None]:
  """Lets JAX trace and compile calls of the target's cuDNN without having it.

  JAX would ask the library on this machine for its version, which decides only
  what is allowed. Without a card, XLA compiles the program around the calls.
  """
  version = CUDNN[0] * 10_000 + CUDNN[1] * 100
  with mock.patch.object(
    cudnn_attention, 'check_cudnn_version', return_value=version
  ):
    yield


def devices(target: Target) -> Sequence[jax.Device]:
  """Returns devices to compile for.

  Raises:
    ValueError: if the compiler knows no such topology.
  """
  hardware = target.hardware
  options: dict[str, Any]
  if isinstance(hardware, Tpu):
    name, platform, options = str(target), 'tpu', dict(hardware.options)
    if math.prod(map(int, target.size.split('x'))) == 1:
      options['chips_per_host_bounds'] = 1, 1, 1  # By default a host has four.
  else:
    name, platform = f'1x1x{target.size}', 'cuda'
    options = {'topology': name, 'target_config': hardware.description()}
  try:
    topology = topologies.get_topology_desc(name, platform=platform, **options)
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f'--target={target}: {error}') from error
  return topology.devices
