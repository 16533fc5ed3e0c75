"""The figures of the paper's tables, and ours beside them."""

from collections.abc import Sequence
import importlib
import json
import pathlib
from typing import Any

from scripts.paper import results
from scripts.paper import runs as our_runs
from scripts.paper.rows import COST_TABLES, DIGITS, METRICS, Row, TABLES
from scripts.paper.runs import Run
from scripts.tables import formats

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


def compare(table: int, runs: Sequence[Run] = ()) -> list[dict[str, Any]]:
  """A table's figures.

  Args:
    table: its number.
    runs: to read metrics from; without any, Tables 5 to 7 have costs alone.

  Returns:
    For each figure: row, quantity, paper, ours and difference (None where it
    was not run) and note.
  """
  return [figure for _, figures in _by_row(table, runs) for figure in figures]


def _by_row(
  table: int, runs: Sequence[Run]
) -> list[tuple[Row, list[dict[str, Any]]]]:
  name, rows = TABLES[table]
  module = importlib.import_module(f'configs.{name}')
  by_row = []
  for row in rows:
    figures = []
    has_costs = 'M parameters' in row.paper
    ours: dict[str, float] = {}
    notes = dict.fromkeys(row.paper, '')
    if row.variant is None:
      notes = dict.fromkeys(row.paper, 'from the literature, not run here')
    else:
      config = module.get_config(row.variant)
      if has_costs:
        ours = our_runs.costs(config)
      for run in runs:
        if run.is_of(config):
          for quantity in row.paper.keys() & METRICS.keys():
            ours[quantity], notes[quantity] = run.figure(quantity)
    for quantity, paper in row.paper.items():
      if quantity in METRICS and table in COST_TABLES and not runs:
        continue
      value = None
      if quantity in ours:
        value = round(ours[quantity] / UNITS[quantity], DIGITS)
      figures.append(
        {
          'row': row.name,
          'quantity': quantity,
          'paper': paper,
          'ours': value,
          'difference': None if value is None else round(value - paper, DIGITS),
          'note': row.note
          if row.note.startswith(quantity)
          else notes[quantity],
        }
      )
    by_row.append((row, figures))
  return by_row


def as_markdown(table: int, runs: Sequence[Run] = ()) -> str:
  """A table for a README: as few lines and columns as tell it all.

  Rows that the paper has side by side share a line, as 'raw / permuted'. What
  is no column of the paper's table is left out.

  Args:
    table: its number.
    runs: to read metrics from.

  Returns:
    What the columns are, the table, and the notes on its figures.
  """
  small = results.read(results.RESULTS)
  return formats.markdown(table, _by_row(table, runs), small)


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
