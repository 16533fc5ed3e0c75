"""Formats a plan as text and as plain data."""

from collections import Counter
from typing import Any

from scripts.plan import parts, targets
from scripts.plan.compilation import Plan

_DAY = 86400e3  # Milliseconds.


def _gib(size: int) -> str:
  return f'{size / targets.GIB:.2f}'


def _memory(plan: Plan) -> list[str]:
  assert plan.memory is not None
  m = plan.memory
  return [
    f'Memory of a device: arguments {_gib(m.arguments)},'
    f' temporaries {_gib(m.temporaries)}, output {_gib(m.output)},'
    f' of it in their place {_gib(m.aliased)} GiB',
    f'{"Fits" if plan.fits else "DOES NOT FIT"}: {_gib(m.total)} of'
    f' {_gib(plan.target.hardware.memory)} GiB',
  ]


def _time(plan: Plan) -> list[str]:
  total = plan.milliseconds()
  if plan.cost is None or total is None:
    return ['No time: the GPU compiler does not estimate it.']
  cycles = plan.cost.cycles
  rate = plan.batch_size / total * 1e3
  lines = [
    f'{"ESTIMATED, not measured":24}{"Mcycles":>10}{"ms":>10}',
    *(
      f'{part:24}{cycles[part] / 1e6:10.2f}{plan.milliseconds(part):10.2f}'
      for part in parts.PARTS
      if cycles[part]
    ),
    f'{"total":24}{cycles.total() / 1e6:10.2f}{total:10.2f}',
    f'  {rate / plan.num_chips:.1f} examples/s/chip, {rate:.0f} examples/s,'
    " without collectives; the compiler's guess",
  ]
  if plan.mode == 'train':
    lines.append(
      f"  {plan.total_steps * total / _DAY:.2f} days for the config's"
      f' {plan.total_steps} steps'
    )
  if plan.cost.unknown_loops:
    lines.append(
      f'  {plan.cost.unknown_loops} loop(s) counted once: their length depends'
      ' on what is drawn'
    )
  return lines


def _kernels(plan: Plan) -> Counter[tuple[str, str, int, float]]:
  """Calls, by name, part, steps and cycles of a step."""
  calls: Counter[tuple[str, str, int, float]] = Counter()
  if plan.cost is not None:
    for kernel, times in plan.cost.kernels.items():
      cycles = plan.kernel_cycles.get(kernel.instruction, 0)
      calls[kernel.name, kernel.part, kernel.steps, cycles] += times
  return calls


def as_text(plan: Plan) -> str:
  """Returns the plan as lines of text."""
  lines = [
    f'{plan.mode} step, batch {plan.batch_size}, {plan.target}:'
    f' {plan.num_devices} devices, {plan.batch_size / plan.num_devices:g}'
    f' examples on each; compiled in {plan.compile_s:.0f} s by'
    f' {plan.compiler}'
  ]
  if plan.cost is None:
    return '\n'.join([*lines, f'DOES NOT FIT: {plan.refusal}'])
  lines += [*_memory(plan), *_time(plan)]
  for kind, times in plan.cost.collectives.items():
    size = plan.cost.collective_bytes[kind]
    lines.append(f'{kind}: {times} times, {size / 1e6:.1f} MB')
  for (name, part, steps, cycles), calls in _kernels(plan).items():
    lines.append(
      f'kernel {name} ({part}): {calls} calls'
      + (f' of {steps} programs, {cycles:.0f} cycles each' if cycles else '')
    )
  for kernel in plan.kernels:
    lines.append(
      f'kernel {kernel.name}: {kernel.registers} registers,'
      f' {kernel.spill_bytes} bytes spilled, {kernel.programs} program(s) a'
      ' multiprocessor'
    )
  return '\n'.join(lines)


def trial(plan: Plan) -> str:
  """Returns a line about one trial of a search."""
  needed = f'{_gib(plan.memory.total)} GiB' if plan.memory else plan.refusal
  verdict = 'fits' if plan.fits else 'does not fit'
  return f'batch {plan.batch_size}: {verdict}, {needed}'


def as_data(plan: Plan) -> dict[str, Any]:
  """Returns the plan as data for JSON."""
  data = vars(plan) | {
    'target': str(plan.target),
    'num_chips': plan.num_chips,
    'fits': plan.fits,
    'device_bytes': plan.target.hardware.memory,
    'estimated_ms': plan.milliseconds(),
    'kernels': [vars(kernel) for kernel in plan.kernels],
  }
  if plan.memory is not None:
    data['memory'] = vars(plan.memory) | {'total': plan.memory.total}
  if plan.cost is not None:
    keys = 'name', 'part', 'steps', 'cycles', 'calls'
    data['cost'] = vars(plan.cost) | {
      'kernels': [
        dict(zip(keys, (*kernel, calls), strict=True))
        for kernel, calls in _kernels(plan).items()
      ]
    }
    del data['kernel_cycles']
  return data
