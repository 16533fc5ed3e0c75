"""What the text of a compiled program says: cycles, collectives, kernels.

The TPU compiler notes an estimate of its cycles beside nearly every operation;
`cost` adds them up as the program runs: the body of a loop as often as it is
run, of a conditional the dearest branch, of a fusion its own figure alone.
Kernels of ours, Mosaic's and Triton's, have no estimate, nor have collectives.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
import dataclasses
import inspect
from pathlib import Path
import re
from typing import Any, NamedTuple

import optax

from experiments import benchmarks, evaluate, optimizers, train_step
from experiments.task import Task
import perceiver
from perceiver import inputs, modalities, position_encoding

_DTYPE_BYTES = {
  **dict.fromkeys(('pred', 's8', 'u8'), 1),
  **dict.fromkeys(('s16', 'u16', 'f16', 'bf16'), 2),
  **dict.fromkeys(('s32', 'u32', 'f32'), 4),
  **dict.fromkeys(('s64', 'u64', 'f64', 'c64'), 8),
}
_COLLECTIVES = re.compile(
  r'((?:ragged-)?all-to-all|all-reduce|all-gather|reduce-scatter'
  r'|collective-permute|collective-broadcast)(-done)?'
)
_KERNELS = re.compile(r'tpu_custom_call|triton|mosaic_gpu')
LOOPS = 'loops'


def _at(*places: Any) -> str:
  """Operations at these places of the code: modules, packages, functions.

  Their paths and names are the code's own, so moving them breaks no rule.
  """
  patterns = []
  for place in places:
    if inspect.ismodule(place):
      path = Path(place.__file__ or '')
      is_package = path.name == '__init__.py'
      pattern = f'{path.parent}/' if is_package else f'{path}:'
    else:
      pattern = f'{inspect.getfile(inspect.unwrap(place))}:{place.__qualname__}'
    patterns.append(re.escape(pattern))
  return f' ({"|".join(patterns)})'


_LOSS = Task.loss, Task.metrics, Task.scores, Task.outputs
# The first that matches 'op_name file:function' names the part of the model.
# Haiku's scopes are in op_name; what has none is told apart by where it is.
RULES = (
  ('optimiser', r'^state\.opt_state'),
  ('cross-attends', r'\bcross_attend_\d'),
  ('latent Transformers', r'\blatent_transformer_\d'),
  ('self-attends', r'\bself_attend_\d'),  # The baselines'.
  ('head', r'/(head|decoder|logits)\b'),
  ('convolutions', r'\bres_net\b'),
  ('input', r'/(patches|embedding)\b'),
  ('loss', rf' .*:.*\.({"|".join(f.__name__ for f in _LOSS)})\b'),
  ('loss', _at(optax.losses, evaluate.best_classes)),
  ('input', r'^batch\['),
  ('input', _at(benchmarks, inputs, modalities, position_encoding)),
  ('input', r'threefry'),  # Random keys, mostly for augmentation.
  (LOOPS, r'/while\b'),  # What a scan carries and keeps.
  ('input', rf'/{perceiver.Perceiver.encode.__name__}/'),
  ('head', _at(perceiver)),  # All that is left of the model pools.
  ('optimiser', _at(optimizers, optax)),
  ('loss', _at(evaluate.make_eval_step)),
  ('optimiser', _at(train_step.make_train_step)),
)
OTHER = 'other'
PARTS = tuple(dict.fromkeys([*(name for name, _ in RULES), OTHER]))


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a computation: %name = shape opcode(operands), attributes."""

  name: str
  shape: str
  opcode: str
  operands: str
  attributes: str
  is_root: bool

  def called(self, *keys: str) -> list[str]:
    """Names of the computations that attributes `keys` name."""
    found = re.findall(
      rf'\b(?:{"|".join(keys)})=(?:{{([^}}]*)}}|(%?[\w.\-]+))', self.attributes
    )
    names = ','.join(several or one for several, one in found)
    return [name.strip(' %') for name in names.split(',') if name]

  @property
  def op_name(self) -> str:
    match = re.search(r'op_name="([^"]*)"', self.attributes)
    return match[1] if match else ''


@dataclasses.dataclass(frozen=True)
class Program:
  """Computations by name, and the source of each stack frame."""

  computations: dict[str, list[Instruction]]
  entry: str
  sources: dict[str, str]  # 'file:function'.

  def origin(self, instruction: Instruction) -> tuple[str, str]:
    """An instruction's op_name, and its source; '' where there is none."""
    frame = _number('stack_frame_id', instruction.attributes)
    return instruction.op_name, self.sources.get(frame, '')


class Kernel(NamedTuple):
  """A call of a kernel of ours."""

  name: str  # As `pallas_call` was told, or the scope it is called in.
  instruction: str  # As the compiler calls it.
  part: str  # Of the model.
  steps: int  # How often its compiled body runs, as our kernels say.
  operands: str  # Their shapes.


@dataclasses.dataclass
class Cost:
  """Of one run of a program on one device."""

  cycles: Counter[str] = dataclasses.field(default_factory=Counter)  # By part.
  kernels: Counter[Kernel] = dataclasses.field(
    default_factory=Counter
  )  # How often each is called.
  collectives: Counter[str] = dataclasses.field(
    default_factory=Counter
  )  # Times, by kind.
  collective_bytes: Counter[str] = dataclasses.field(
    default_factory=Counter
  )  # Of their results on a device, by kind.
  unknown_loops: int = 0  # Of unknown length, counted once.

  def add(self, other: 'Cost', times: int = 1) -> None:
    _add(self.cycles, other.cycles, times)
    _add(self.kernels, other.kernels, times)
    _add(self.collectives, other.collectives, times)
    _add(self.collective_bytes, other.collective_bytes, times)
    self.unknown_loops += other.unknown_loops

  def add_kernels(self, cycles: Mapping[str, float]) -> None:
    """Adds kernels' cycles of a step, by instruction, to their parts."""
    for kernel, calls in self.kernels.items():
      self.cycles[kernel.part] += round(
        calls * kernel.steps * cycles.get(kernel.instruction, 0)
      )


def _add(mine: Counter[Any], theirs: Counter[Any], times: int) -> None:
  for key, count in theirs.items():
    mine[key] += times * count


def _closing(text: str, start: int) -> int:
  """Behind the parenthesis that closes the one at `start`."""
  depth = 0
  for match in re.compile(r'[()]').finditer(text, start):
    depth += 1 if match[0] == '(' else -1
    if depth == 0:
      return match.end()
  raise ValueError(f'No closing parenthesis: {text[start : start + 80]}')


def _instruction(line: str) -> Instruction | None:
  match = re.match(r'\s+(ROOT )?%?([\w.\-]+) = ', line)
  if match is None:
    return None
  start = match.end()
  end = _closing(line, start) if line[start] == '(' else line.find(' ', start)
  opening = line.find('(', end)
  closing = _closing(line, opening)
  return Instruction(
    name=match[2],
    shape=line[start:end],
    opcode=line[end:opening].strip(),
    operands=line[opening + 1 : closing - 1],
    attributes=line[closing:],
    is_root=bool(match[1]),
  )


def parse(text: str) -> Program:
  """The program of `compiled.as_text()`."""
  computations: dict[str, list[Instruction]] = {}
  tables: dict[str, dict[str, str]] = defaultdict(dict)
  entry = computation = table = ''
  # What kernels say of themselves is printed over several lines.
  text = re.sub(
    r'(kernel_metadata=\{)([^}]*)', lambda m: m[1] + ''.join(m[2].split()), text
  )
  for line in text.splitlines():
    if re.fullmatch(r'FileNames|FunctionNames|FileLocations|StackFrames', line):
      table = line
    elif match := re.match(r'(\d+) (.*)', line):
      tables[table][match[1]] = match[2]
    elif match := re.match(r'(ENTRY )?%?([\w.\-]+) \(.*\{$', line):
      computation = match[2]
      computations[computation] = []
      entry = computation if match[1] else entry
    elif instruction := _instruction(line):
      computations[computation].append(instruction)
  sources = {}  # A frame names a location, which names a file and a function.
  for frame, text in tables['StackFrames'].items():
    location = tables['FileLocations'][_number('file_location_id', text)]
    file = tables['FileNames'][_number('file_name_id', location)]
    function = tables['FunctionNames'][_number('function_name_id', location)]
    sources[frame] = f'{file}:{function}'.replace('"', '')
  return Program(computations, entry, sources)


def _number(key: str, text: str) -> str:
  """'3' of 'key=3'; '' where there is none."""
  match = re.search(rf'\b{key}=(\d+)', text)
  return match[1] if match else ''


def part_of(op_name: str, source: str) -> str | None:
  """The part of the model that an operation belongs to, if it tells.

  Args:
    op_name: its scope.
    source: 'file:function' of the frame that it comes from; or ''.
  """
  where = f'{op_name} {source}'
  return next((name for name, rule in RULES if re.search(rule, where)), None)


def _part(
  program: Program, instruction: Instruction, known: Mapping[str, str]
) -> str | None:
  """An instruction's part: by scope, a fusion's root, operands.

  The compiler's own copies have no scope.
  """
  candidates = [instruction]
  for name in instruction.called('calls'):
    candidates += [i for i in program.computations[name] if i.is_root]
  for candidate in candidates:
    if candidate.op_name and (part := part_of(*program.origin(candidate))):
      return part
  operands = re.findall(r'%([\w.\-]+)', instruction.operands)
  votes = Counter(known[name] for name in operands if name in known)
  return votes.most_common(1)[0][0] if votes else None


def _trips(program: Program, loop: Instruction) -> int | None:
  """How often a loop runs: as noted, or from its condition's constant."""
  if match := re.search(r'"known_trip_count":{"n":"(\d+)"}', loop.attributes):
    return int(match[1])
  constants = [
    int(instruction.operands)
    for name in loop.called('condition')
    for instruction in program.computations[name]
    if instruction.opcode == 'constant' and instruction.operands.isdigit()
  ]
  return constants[0] if len(constants) == 1 else None


def _shape_bytes(shape: str) -> int:
  total = 0
  for dtype, sizes in re.findall(r'\b([a-z]+\d*)\[([\d,]*)\]', shape):
    size = _DTYPE_BYTES.get(dtype, 1)
    for n in sizes.split(',') if sizes else ():
      size *= int(n)
    total += size
  return total


def _kernel(instruction: Instruction, part: str) -> Kernel:
  match = re.search(r'\bname = "([^"]*)"', instruction.attributes)
  steps = re.search(r'"steps":"(\d+)"', instruction.attributes)
  operands = re.search(
    r'operand_layout_constraints={(.*?})}', instruction.attributes
  )
  return Kernel(
    name=match[1]
    if match
    else re.sub(r'(\.\d+|\.clone)*$', '', instruction.name),
    instruction=instruction.name,
    part=part,
    steps=int(steps[1]) if steps else 1,
    operands=operands[1] if operands else '',
  )


def cost(program: Program) -> Cost:
  """The cost of a run of the whole program."""

  def of_computation(name: str, part: str, fused: bool) -> Cost:
    total = Cost()
    known: dict[str, str] = {}
    for instruction in program.computations[name]:
      own = _part(program, instruction, known)
      if own and own != LOOPS:  # What is carried tells nothing of its user.
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
      total.collective_bytes[match[1]] += _shape_bytes(x.shape)
    target = re.search(r'custom_call_target="([^"]*)"', x.attributes)
    if target and _KERNELS.search(target[1]):
      total.kernels[_kernel(x, part)] += 1
    if x.opcode == 'while':
      trips = _trips(program, x)
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
