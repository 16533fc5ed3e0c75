"""Parses the text of a compiled program into computations and instructions.

JAX has no parser for it, and no other interface to the cycles, collectives and
kernels that `program` reads from it.
"""

from collections import defaultdict
import dataclasses
import re

_DTYPE_BYTES = {
  **dict.fromkeys(('pred', 's8', 'u8'), 1),
  **dict.fromkeys(('s16', 'u16', 'f16', 'bf16'), 2),
  **dict.fromkeys(('s32', 'u32', 'f32'), 4),
  **dict.fromkeys(('s64', 'u64', 'f64', 'c64'), 8),
}


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction: %name = shape opcode(operands), attributes."""

  name: str
  shape: str
  opcode: str
  operands: str
  attributes: str
  is_root: bool

  def called(self, *keys: str) -> list[str]:
    """Returns the names of the computations in the attributes `keys`."""
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
  """A program: computations by name, and the source of each stack frame."""

  computations: dict[str, list[Instruction]]
  entry: str
  sources: dict[str, str]  # 'file:function'.

  def origin(self, instruction: Instruction) -> tuple[str, str]:
    """Returns an instruction's op_name and source; '' if it has none."""
    frame = _number('stack_frame_id', instruction.attributes)
    return instruction.op_name, self.sources.get(frame, '')


def _closing(text: str, start: int) -> int:
  """Returns the index after the parenthesis that closes the one at `start`."""
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
  """Parses `compiled.as_text()`."""
  computations: dict[str, list[Instruction]] = {}
  tables: dict[str, dict[str, str]] = defaultdict(dict)
  entry = computation = table = ''
  # The metadata of kernels spans several lines.
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
  """Returns '3' for 'key=3'; '' if the key is missing."""
  match = re.search(rf'\b{key}=(\d+)', text)
  return match[1] if match else ''


def trips(program: Program, loop: Instruction) -> int | None:
  """Returns how often a loop runs: as noted, or its condition's constant."""
  if match := re.search(r'"known_trip_count":{"n":"(\d+)"}', loop.attributes):
    return int(match[1])
  constants = [
    int(instruction.operands)
    for name in loop.called('condition')
    for instruction in program.computations[name]
    if instruction.opcode == 'constant' and instruction.operands.isdigit()
  ]
  return constants[0] if len(constants) == 1 else None


def shape_bytes(shape: str) -> int:
  total = 0
  for dtype, sizes in re.findall(r'\b([a-z]+\d*)\[([\d,]*)\]', shape):
    size = _DTYPE_BYTES.get(dtype, 1)
    for n in sizes.split(',') if sizes else ():
      size *= int(n)
    total += size
  return total
