"""Sums up a compiled program: cycles by part, collectives, kernels.

`compiled.cost_analysis()` has only FLOPs and bytes of the whole program. But
the TPU compiler annotates nearly every operation with an estimate of its
cycles. `cost` adds these as the program runs: a loop's body times its trips,
the most expensive branch of a conditional, a fusion's own figure. Kernels
(Mosaic, Triton, cuDNN's attention) and collectives have no estimate.
"""

from collections import Counter
from collections.abc import Mapping
import dataclasses
import re
from typing import NamedTuple

from scripts.plan import hlo, parts
from scripts.plan.hlo import Instruction, Program
from scripts.plan.parts import LOOPS, OTHER

_COLLECTIVES = re.compile(
  r'((?:ragged-)?all-to-all|all-reduce|all-gather|reduce-scatter'
  r'|collective-permute|collective-broadcast)(-done)?'
)
_KERNELS = re.compile(r'tpu_custom_call|triton|mosaic_gpu|cudnn\$fmha')


class Kernel(NamedTuple):
  """A call of one of our kernels, or of cuDNN's attention."""

  name: str  # The name given to `pallas_call`, or the scope of the call.
  instruction: str  # The name given by the compiler.
  part: str  # Of the model.
  steps: int  # How often its compiled body runs, from our metadata.
  operands: str  # Their shapes.


@dataclasses.dataclass
class Cost:
  """The cost of one run of a program on one device."""

  cycles: Counter[str] = dataclasses.field(default_factory=Counter)  # By part.
  # Calls of each kernel.
  kernels: Counter[Kernel] = dataclasses.field(default_factory=Counter)
  # By kind: how many, and the bytes of their results per device.
  collectives: Counter[str] = dataclasses.field(default_factory=Counter)
  collective_bytes: Counter[str] = dataclasses.field(default_factory=Counter)
  unknown_loops: int = 0  # Loops of unknown length, counted once.

  def add(self, other: 'Cost', times: int = 1) -> None:
    for name in ('cycles', 'kernels', 'collectives', 'collective_bytes'):
      mine = getattr(self, name)
      for key, count in getattr(other, name).items():
        mine[key] += times * count
    self.unknown_loops += other.unknown_loops

  def add_kernels(self, cycles: Mapping[str, float]) -> None:
    """Adds the kernels' cycles per step, by instruction, to their parts."""
    for kernel, calls in self.kernels.items():
      self.cycles[kernel.part] += round(
        calls * kernel.steps * cycles.get(kernel.instruction, 0)
      )


def _part(
  program: Program, instruction: Instruction, known: Mapping[str, str]
) -> str | None:
  """Returns an instruction's part, by its scope, its fusion's root or operands.

  Copies that the compiler adds have no scope.
  """
  candidates = [instruction]
  for name in instruction.called('calls'):
    candidates += [i for i in program.computations[name] if i.is_root]
  for candidate in candidates:
    if candidate.op_name and (
      part := parts.part_of(*program.origin(candidate))
    ):
      return part
  operands = re.findall(r'%([\w.\-]+)', instruction.operands)
  votes = Counter(known[name] for name in operands if name in known)
  return votes.most_common(1)[0][0] if votes else None


def _kernel(instruction: Instruction, part: str) -> Kernel:
  named = re.search(r'\bname = "([^"]*)"', instruction.attributes)
  scope = re.sub(r'(\.\d+|\.clone)*$', '', instruction.name)
  steps = re.search(r'"steps":"(\d+)"', instruction.attributes)
  operands = re.search(
    r'operand_layout_constraints={(.*?})}', instruction.attributes
  )
  return Kernel(
    name=named[1] if named else scope,
    instruction=instruction.name,
    part=part,
    steps=int(steps[1]) if steps else 1,
    operands=operands[1] if operands else '',
  )


def cost(program: Program) -> Cost:
  """Returns the cost of one run of the whole program."""

  def of_computation(name: str, part: str, fused: bool) -> Cost:
    total = Cost()
    known: dict[str, str] = {}
    for instruction in program.computations[name]:
      own = _part(program, instruction, known)
      if own and own != LOOPS:  # Carried values do not show who uses them.
        known[instruction.name] = own
      total.add(of_instruction(instruction, own or part, fused))
    return total

  def of_instruction(x: Instruction, part: str, fused: bool) -> Cost:
    total = Cost()
    cycles = re.search(r'"estimated_cycles":"(\d+)"', x.attributes)
    if cycles and not fused:
      total.cycles[part] += int(cycles[1])
    if match := _COLLECTIVES.fullmatch(x.opcode):
      total.collectives[match[1]] += 1
      total.collective_bytes[match[1]] += hlo.shape_bytes(x.shape)
    target = re.search(r'custom_call_target="([^"]*)"', x.attributes)
    if target and _KERNELS.search(target[1]):
      total.kernels[_kernel(x, part)] += 1
    if x.opcode == 'while':
      trips = hlo.trips(program, x)
      total.unknown_loops += trips is None
      for name in x.called('condition', 'body'):
        total.add(of_computation(name, part, fused), trips or 1)
    elif x.opcode == 'conditional':
      keys = 'branch_computations', 'true_computation', 'false_computation'
      branches = [of_computation(n, part, fused) for n in x.called(*keys)]
      total.add(max(branches, key=lambda branch: branch.cycles.total()))
    elif x.opcode == 'fusion':
      for name in x.called('calls'):
        total.add(of_computation(name, part, fused=True))
    elif x.opcode in ('call', 'async-start'):
      for name in x.called('calls', 'to_apply'):
        total.add(of_computation(name, part, fused))
    return total

  return of_computation(program.entry, OTHER, fused=False)
