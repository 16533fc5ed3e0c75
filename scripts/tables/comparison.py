"""The figures of the paper's tables, and ours beside them."""

from collections.abc import Iterator, Sequence
import importlib
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from experiments import models
from perceiver import cost
from scripts.paper.rows import COST_TABLES, DIGITS, METRICS, Row, TABLES
from scripts.paper.runs import Run

# The row, quantity, paper, ours and difference (None if not run), and note.
Figure = dict[str, Any]
UNITS = {
  'GFLOPs': 1e9,
  'M parameters': 1e6,
  'top-1 %': 0.01,
  'best top-1 %': 0.01,
  'mAP': 0.01,
}
MEASURED = pathlib.Path(__file__).parent.parent.parent / (
  'experiments/results/table5_12.json'
)


def compare(table: int, runs: Sequence[Run] = ()) -> list[Figure]:
  """Returns the figures of a table in the order of its rows.

  `runs` are those to read metrics from; without any, Tables 5 to 7 have costs
  alone.
  """
  return [figure for _, figures in by_row(table, runs) for figure in figures]


def by_row(
  table: int, runs: Sequence[Run] = ()
) -> list[tuple[Row, list[Figure]]]:
  """Returns a table's rows, each with its figures as in `compare`."""
  module = importlib.import_module(f'configs.{TABLES[table].config}')
  found = []
  for row in TABLES[table].rows:
    config = None if row.variant is None else module.get_config(row.variant)
    figures = list(_figures(row, config, runs))
    if table in COST_TABLES and not runs:
      figures = [f for f in figures if f['quantity'] not in METRICS]
    if row.paper:
      found.append((row, figures))
  return found


def _figures(
  row: Row, config: ConfigDict | None, runs: Sequence[Run]
) -> Iterator[Figure]:
  ours: dict[str, tuple[float, str]] = {}  # A value and a note.
  if config is not None and 'M parameters' in row.paper:
    ours |= {q: (x, '') for q, x in costs(config).items()}
  for run in runs:
    if config is not None and run.is_of(config):
      ours |= {q: run.figure(q) for q in row.paper.keys() & METRICS.keys()}
  for quantity, paper in row.paper.items():
    value, note = None, ''
    if config is None:
      note = 'from the literature, not run here'
    elif quantity in ours:
      value, note = ours[quantity]
      value = round(value / UNITS[quantity], DIGITS)
    yield {
      'row': row.name,
      'quantity': quantity,
      'paper': paper,
      'ours': value,
      'difference': None if value is None else round(value - paper, DIGITS),
      'note': row.note if row.note.startswith(quantity) else note,
    }


def costs(config: ConfigDict) -> dict[str, float]:
  """Counts the FLOPs and the parameters of a config's model."""
  params, _ = models.model_shapes(config)
  return {
    'GFLOPs': models.forward_flops(config),
    'M parameters': cost.count_parameters(params),
  }


def measured() -> str:
  """Says what a training step of Table 5's last row took in our benchmark."""
  report = json.loads(MEASURED.read_text())
  (result,) = report['results']
  return (
    '12 cross-attends ran out of memory on 64 TPUs in the paper; here a'
    f' training step at batch {result["batch_size"]} took'
    f' {result["peak_bytes"] / 1e9:.1f} GB and {result["median_s"]:.1f} s on'
    f' one {result["device"]} (commit {report["commit"][:7]}):\n'
    f'  {report["command"]}'
  )
