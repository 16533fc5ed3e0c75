r"""Measures what only a GPU or TPU can tell, most important first.

  python -m scripts.benchmark.device --output=experiments/results/h100
  python -m scripts.benchmark.device --output=experiments/results/h100 --table

The first command checks the forms of attention and the kernels against the
plain form, and times products and copies, whole steps in all forms, one
cross-attention, and transformers' model, if it is installed. It also says where
a step's time goes. Each part is a process with a time limit of its own. So a
part that fails or hangs costs no other. The folder gets results.jsonl, a line
for each result as it comes, and log.txt. The second command prints the results
as the tables of RESULTS.md. `--tiny` measures small models, on any machine.
"""

from pathlib import Path

from absl import app, flags

from experiments import path_flags
from scripts.benchmark.device import plan, runner, table
from scripts.shared import command, measurements

_OUTPUT = path_flags.define_path(
  'output', None, 'The folder for results.jsonl and log.txt.', required=True
)
_SECONDS = flags.DEFINE_integer(
  'seconds', 1800, 'The time limit of all parts together.', lower_bound=1
)
_PARTS = flags.DEFINE_multi_enum(
  'part', [], plan.NAMES, 'Run only this kind of part; may be repeated.'
)
_TINY = flags.DEFINE_bool('tiny', False, 'Measure small models.')
_TABLE = flags.DEFINE_bool('table', False, 'Print the results as tables.')


@command.running()
def main(argv: list[str]) -> None:
  del argv
  folder = Path(_OUTPUT.value)
  if _TABLE.value:
    print(table.as_markdown(table.read(folder / runner.RESULTS)))
    return
  folder.mkdir(parents=True, exist_ok=True)
  measurements.check(str(folder / runner.RESULTS))
  parts = plan.tiny() if _TINY.value else plan.full()
  wanted = _PARTS.value or plan.NAMES
  runner.run(
    [part for part in parts if part.name in wanted],
    folder,
    _SECONDS.value,
    measurements.header('benchmark.device'),
  )


if __name__ == '__main__':
  app.run(main)
