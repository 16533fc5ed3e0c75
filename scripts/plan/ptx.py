"""What kernels take of a GPU: registers, spills, programs that fit at once."""

from collections.abc import Collection
import dataclasses
from pathlib import Path
import re
import subprocess

from scripts.plan import targets

_ENTRY = re.compile(r'\.entry (\w+)\([^{]*?\.reqntid (\d+)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Kernel:
  """As ptxas compiles it."""

  name: str
  registers: int  # Of a thread.
  spill_bytes: int  # Stored by a thread.
  programs: int  # On a multiprocessor, as far as registers go.


def dumping(folder: str) -> dict[str, str]:
  """Options of a compilation that leaves its kernels in a folder.

  XLA of jax 0.12 leaves them only if it is asked for them.
  """
  return {'xla_dump_to': folder, 'xla_dump_emitter_re': 'ptx'}


def programs(registers: int, threads: int) -> int:
  """How many programs' registers a multiprocessor has: in 256s for a warp."""
  warp = -(-registers * 32 // 256) * 256
  return targets.REGISTERS // (warp * -(-threads // 32))


def parse(output: str, threads: dict[str, int]) -> list[Kernel]:
  """Kernels in what `ptxas -v` prints.

  Args:
    output: of ptxas.
    threads: of a program, by kernel.

  Returns:
    One for each entry function.
  """
  kernels = []
  for report in output.split("Compiling entry function '")[1:]:
    name = report.partition("'")[0]
    registers = int(re.search(r'Used (\d+) registers', report)[1])  # type: ignore[index]
    spills = re.search(r'(\d+) bytes spill stores', report)
    kernels.append(
      Kernel(
        name,
        registers,
        int(spills[1]) if spills else 0,
        programs(registers, threads[name]),
      )
    )
  return kernels


def kernels(
  dump: Path, names: Collection[str], architecture: str, packages: Path
) -> list[Kernel]:
  """The kernels of those names in a compiler's dump."""
  found: dict[str, Kernel] = {}
  ptxas = packages / 'nvidia' / 'cuda_nvcc' / 'bin' / 'ptxas'
  for path in sorted(dump.glob('*.ptx')):
    threads = {n: int(x) for n, x in _ENTRY.findall(path.read_text())}
    if threads.keys().isdisjoint(names):
      continue
    result = subprocess.run(
      [ptxas, '-v', f'-arch={architecture}', '-o', '/dev/null', path],
      capture_output=True,
      text=True,
      check=True,
    )
    for kernel in parse(result.stderr, threads):
      if kernel.name in names:
        found[kernel.name] = kernel
  return list(found.values())
