"""Compiles the steps of a run for a target, and finds the largest batch.

This works only in a process in an environment of `plan.environment`.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from pathlib import Path
import tempfile
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments import experiment
from scripts.plan import bundles, environment, hlo, program, ptx, step, targets

# The runtime takes the rest. Published: the TPU compiler's own error leaves
# 15.75 of v5e's 16 GiB to a program. Other hardware is assumed to do likewise.
USABLE = 0.98


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes per device, as planned by the compiler."""

  arguments: int
  temporaries: int
  output: int
  aliased: int  # The output that takes the place of arguments.

  @property
  def total(self) -> int:
    return self.arguments + self.temporaries + self.output - self.aliased


@dataclasses.dataclass(frozen=True)
class Plan:
  """A compiled step."""

  target: targets.Target
  mode: str
  batch_size: int  # Over all devices.
  num_devices: int
  total_steps: int  # Of a whole run.
  compile_s: float
  compiler: str  # The versions of JAX and of the compiler.
  refusal: str = ''  # The compiler's error, if memory does not suffice.
  memory: Memory | None = None
  cost: program.Cost | None = None
  kernels: Sequence[ptx.Kernel] = ()  # For GPUs.
  # For TPUs: cycles per step of a kernel, by instruction.
  kernel_cycles: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def fits(self) -> bool:
    return (
      self.memory is not None
      and self.memory.total <= USABLE * self.target.hardware.memory
    )

  @property
  def num_chips(self) -> int:
    return max(1, self.num_devices // self.target.hardware.devices_per_chip)

  def milliseconds(self, part: str | None = None) -> float | None:
    """Returns the estimated time of a step or a part; None for GPUs."""
    hardware = self.target.hardware
    if self.cost is None or not isinstance(hardware, targets.Tpu):
      return None
    cycles = self.cost.cycles
    total = cycles.total() if part is None else cycles[part]
    return total / (hardware.clock_ghz * 1e6)


def batch_unit(config: ConfigDict, mode: str, num_devices: int) -> int:
  """Returns the number that must divide a batch size."""
  groups = num_devices // config.train.model_parallel
  return groups * (config.train.accumulate if mode == 'train' else 1)


def _kernel_cycles(
  cost: program.Cost, config: ConfigDict, mode: str, target: targets.Target
) -> dict[str, float]:
  """Returns cycles per step of each kernel; a device's cores share them."""
  if not isinstance(target.hardware, targets.Tpu) or not cost.kernels:
    return {}
  counts = bundles.of_kernels(config, mode, target)
  return {
    kernel.instruction: counts[kernel.name, bundles.signature(kernel.operands)]
    / target.hardware.cores
    for kernel in cost.kernels
  }


def plan(
  config: ConfigDict,
  target: targets.Target,
  devices: Sequence[jax.Device],
  mode: str = 'train',
) -> Plan:
  """Compiles a step of the config for all of the target's devices.

  `devices` are the target's `targets.devices`; `mode` is one of `step.MODES`.
  Raises ValueError if something is wrong with the config.
  """
  whole_run = config
  config = ConfigDict(config.to_dict())
  # The batch size of the other mode need not suit these devices.
  (other,) = {*step.MODES} - {mode}
  config[other].batch_size = batch_unit(config, other, len(devices))
  traced, run = step.trace(config, mode, devices)
  start = time.perf_counter()
  hardware = target.hardware
  packages = environment.inside()
  facts: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as dump:
    options = {} if target.platform == 'tpu' else ptx.dumping(dump)
    try:
      compiled = traced.lower().compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      facts['refusal'] = str(error).partition('\n')[0]
    else:
      memory = compiled.memory_analysis()
      cost = program.cost(hlo.parse(compiled.as_text()))
      facts['kernel_cycles'] = _kernel_cycles(cost, config, mode, target)
      cost.add_kernels(facts['kernel_cycles'])
      facts['cost'] = cost
      facts['memory'] = Memory(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        output=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
      )
      if isinstance(hardware, targets.Gpu) and cost.kernels and packages:
        facts['kernels'] = ptx.kernels(
          Path(dump),
          {kernel.name for kernel in cost.kernels},
          hardware.architecture,
          packages,
        )
  return Plan(
    target=target,
    mode=mode,
    batch_size=config[mode].batch_size,
    num_devices=len(devices),
    total_steps=experiment.total_steps(whole_run, run.task),
    compile_s=time.perf_counter() - start,
    compiler=environment.compiler(packages),
    **facts,
  )


def largest(fits: Callable[[int], bool], start: int) -> int:
  """Returns the largest n that fits, to within a quarter; 0 if 1 does not.

  Each trial is a compilation. So it doubles or halves from `start`, then tries
  the quarters in between.
  """
  low = 1 << (max(start, 1).bit_length() - 1)
  if fits(low):
    while fits(2 * low):
      low *= 2
  else:
    while low > 1 and not fits(low // 2):
      low //= 2
    low //= 2
  for more in (low // 2, low // 4):
    if more and fits(low + more):
      low += more
  return low


def find_batch_size(
  config: ConfigDict,
  target: targets.Target,
  devices: Sequence[jax.Device],
  mode: str,
  report: Callable[[Plan], None],
) -> Plan:
  """Returns the plan of the largest batch that fits.

  The search starts at the config's batch size; `report` gets each trial.
  Raises ValueError if no batch fits.
  """
  config = ConfigDict(config.to_dict())
  unit = batch_unit(config, mode, len(devices))
  best: list[Plan] = []

  def fits(multiple: int) -> bool:
    config[mode].batch_size = multiple * unit
    trial = plan(config, target, devices, mode)
    report(trial)
    if trial.fits:
      best.append(trial)
    return trial.fits

  largest(fits, config[mode].batch_size // unit)
  if not best:
    raise ValueError(f'No batch fits on {target}.')
  return best[-1]
