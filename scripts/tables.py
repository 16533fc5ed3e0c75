"""The paper's tables beside ours: `python -m scripts.tables --table=6`.

Tables 5 to 7 have costs: parameters are counted from the shapes of the model
that the config builds, FLOPs from the config by the paper's rule; nothing is
allocated.
"""

import dataclasses
import json
import pathlib
import sys
from typing import Any

from absl import app, flags

from configs import imagenet
from experiments.experiment import model_shapes
from perceiver import cost

UNITS = {'GFLOPs': 1e9, 'M parameters': 1e6}
MEASURED = pathlib.Path(__file__).parent.parent / (
  'experiments/results/table5_12.json'
)
DIGITS = 1  # That the paper prints after the decimal point.


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the paper's tables that has costs."""

  name: str
  variant: str  # Of configs/imagenet.py.
  flops: float  # In 1e9, for a forward pass of one image.
  parameters: float  # In 1e6.
  note: str = ''


TABLES = {
  5: (
    Row('4 cross-attends alone', 'table5_4', 173.1, 12.7),
    Row('8 cross-attends alone', 'table5_8', 346.1, 23.8),
    Row('12 cross-attends alone', 'table5_12', 519.2, 34.9),
  ),
  6: (
    Row(
      '1 at start',
      'table6_1_at_start',
      404.3,
      41.1,
      'M parameters is a misprint in the paper: the same model'
      ' interleaved, in its next row, has 42.1',
    ),
    Row('1 interleaved', 'table6_1_interleaved', 404.3, 42.1),
    Row('2 at start', 'table6_2_at_start', 447.6, 44.9),
    Row('2 interleaved', 'table6_2_interleaved', 447.6, 44.9),
    Row('4 at start', 'table6_4_at_start', 534.1, 44.9),
    Row('4 interleaved', 'table6_4_interleaved', 534.1, 44.9),
    Row('8 at start', 'table6_8_at_start', 707.2, 44.9),
    Row('8 interleaved', 'table6_8_interleaved', 707.2, 44.9),
  ),
  7: (
    Row('no weight sharing', 'table7_not_shared', 707.2, 326.2),
    Row('weight sharing', '', 707.2, 44.9),
  ),
}


def costs(variant: str) -> dict[str, float]:
  """FLOPs and parameters of a variant of configs/imagenet.py."""
  config = imagenet.get_config(variant)
  params, inputs = model_shapes(config)
  flops = cost.perceiver_flops(
    config.model, inputs.num_elements, inputs.num_channels
  )
  return {'GFLOPs': flops, 'M parameters': cost.count_parameters(params)}


def compare(table: int) -> list[dict[str, Any]]:
  """A table's figures: row, quantity, paper, ours, difference and note."""
  figures = []
  for row in TABLES[table]:
    paper = {'GFLOPs': row.flops, 'M parameters': row.parameters}
    for quantity, value in costs(row.variant).items():
      ours = round(value / UNITS[quantity], DIGITS)
      figures.append(
        {
          'row': row.name,
          'quantity': quantity,
          'paper': paper[quantity],
          'ours': ours,
          'difference': round(ours - paper[quantity], DIGITS),
          'note': row.note if row.note.startswith(quantity) else '',
        }
      )
  return figures


def _as_text(figures: list[dict[str, Any]]) -> str:
  lines = [f'{"":24}{"":14}{"paper":>8}{"ours":>8}{"diff.":>8}']
  for f in figures:
    line = (
      f'{f["row"]:24}{f["quantity"]:14}{f["paper"]:8}{f["ours"]:8}'
      f'{f["difference"]:8}'
    )
    lines.append(line + (f'  ({f["note"]})' if f['note'] else ''))
  return '\n'.join(lines)


def measured() -> str:
  """What our own step of Table 5's last row took, as the benchmark read it."""
  report = json.loads(MEASURED.read_text())
  (result,) = report['results']
  return (
    '12 cross-attends ran out of memory on 64 TPUs in the paper; here a'
    f' training step at batch {result["batch_size"]} took'
    f' {result["peak_bytes"] / 1e9:.1f} GB and {result["median_s"]:.1f} s on'
    f' one {result["device"]} (commit {report["commit"][:7]}):\n'
    f'  {report["command"]}'
  )


def main(argv: list[str]) -> None:
  del argv
  figures = compare(int(_TABLE.value))
  if _FORMAT.value == 'json':
    json.dump(figures, sys.stdout, indent=1)
    print()
  else:
    print(f'Table {_TABLE.value}, forward pass of one 224x224 image')
    print(_as_text(figures))
    if _TABLE.value == '5':
      print(measured())


if __name__ == '__main__':
  _TABLE = flags.DEFINE_enum(
    'table', None, [str(t) for t in TABLES], 'Which table.', required=True
  )
  _FORMAT = flags.DEFINE_enum(
    'format', 'text', ['text', 'json'], 'How to print it.'
  )
  app.run(main)
