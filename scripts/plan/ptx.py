"""Reports what a GPU kernel uses: registers, spills, programs that fit."""

from collections.abc import Collection
import dataclasses
from pathlib import Path
import re
import subprocess

from scripts.plan import targets

_ENTRY = re.compile(r'\.entry (\w+)\([^{]*?\.reqntid (\d+)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A kernel as compiled by ptxas."""

  name: str
  registers: int  # Per thread.
  spill_bytes: int  # Stored per thread.
  programs: int  # How many fit on a multiprocessor, by their registers.


def dumping(folder: str) -> dict[str, str]:
  """Returns compiler options that dump kernels into a folder.

  The XLA of jax 0.12 dumps them only on request.
  """
  return {'xla_dump_to': folder, 'xla_dump_emitter_re': 'ptx'}


def programs(registers: int, threads: int) -> int:
  """Returns how many programs fit; a warp gets registers in units of 256."""
  warp = -(-registers * 32 // 256) * 256
  return targets.REGISTERS // (warp * -(-threads // 32))


def parse(output: str, threads: dict[str, int]) -> list[Kernel]:
  """Parses the kernels in the output of `ptxas -v`.

  `threads` has the threads per program, by kernel.
  """
  kernels = []
  for report in output.split("Compiling entry function '")[1:]:
    name = report.partition("'")[0]
    registers = int(re.search(r'Used (\d+) registers', report)[1])  # type: ignore[index]
    spills = re.search(r'(\d+) bytes spill stores', report)
    spill_bytes = int(spills[1]) if spills else 0
    fit = programs(registers, threads[name])
    kernels.append(Kernel(name, registers, spill_bytes, fit))
  return kernels


def kernels(
  dump: Path, names: Collection[str], architecture: str, packages: Path
) -> list[Kernel]:
  """Returns the named kernels of a compiler's dump."""
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
