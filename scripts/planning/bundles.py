"""Cycles of a TPU kernel, from the program that it was compiled into.

The compiler estimates none for a kernel. But it fixes in advance what its units
do in each cycle: an instruction word, or bundle, a cycle. So the bundles of a
kernel's body are the cycles of a step of it, but for waits for memory.
"""

import os
from pathlib import Path

FOLDER = 'PERCEIVER_PLAN_DUMP'
_LABEL = 'final_hlo-static-per-bundle-utilization'


def variables(dump: Path) -> dict[str, str]:
  """The environment of a process whose compiler notes bundles in a folder."""
  flags = (
    os.getenv('LIBTPU_INIT_ARGS', ''),
    f'--xla_jf_dump_to={dump}',
    '--xla_jf_dump_llo_text=true',
    f'--xla_jf_dump_llo_pass_label_regex={_LABEL}',
  )
  return {FOLDER: str(dump), 'LIBTPU_INIT_ARGS': ' '.join(flags).strip()}


def count(instruction: str) -> int | None:
  """Bundles of a kernel in the program compiled last, if they were noted."""
  if FOLDER not in os.environ:
    return None
  dump = Path(os.environ[FOLDER])
  files = sorted(dump.glob(f'*-{instruction}-*{_LABEL}.txt'))  # By time.
  if not files:
    return None
  _, _, table = files[-1].read_text().partition('== UTILIZATION:\n')
  return len(table.splitlines())
