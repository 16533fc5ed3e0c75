"""How figures of the paper's tables are printed beside ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.paper import small_tables
from scripts.paper.rows import COST_TABLES, METRICS, Row, TABLES

Figure = Mapping[str, Any]  # As `comparison.compare` has them.


def text(figures: Sequence[Figure]) -> str:
  """A line for each figure."""
  lines = [f'{"":26}{"":14}{"paper":>8}{"ours":>9}{"diff.":>8}']
  for f in figures:
    line = f'{f["row"]:26}{f["quantity"]:14}{f["paper"]:8}'
    if f['ours'] is None:
      line += f'{"not run":>9}{"":8}'
    else:
      line += f'{f["ours"]:9}{f["difference"]:8}'
    lines.append(line + (f'  ({f["note"]})' if f['note'] else ''))
  return '\n'.join(line.rstrip() for line in lines)


def markdown(
  table: int,
  by_row: Sequence[tuple[Row, list[Any]]],
  small: small_tables.Results,
) -> str:
  """See `comparison.as_markdown`.

  Args:
    table: its number.
    by_row: its rows, each with its figures.
    small: results of small models, for tables without costs.

  Returns:
    What the columns are, the table, and the notes on its figures.
  """
  lines: list[list[tuple[Row, dict[str, Figure]]]] = []
  for row, figures in by_row:
    if not row.name.startswith(' '):
      lines.append([])
    lines[-1].append((row, {f['quantity']: f for f in figures}))
  has_costs = table in COST_TABLES
  found = dict.fromkeys(f['quantity'] for _, fs in by_row for f in fs)
  quantities = [q for q in found if has_costs or q in METRICS]
  columns = quantities if has_costs else ['Paper', 'Ours', 'In small']
  config = f'`--config=configs/{TABLES[table][0]}.py:VARIANT`'
  what = ', paper / ours' if has_costs else f', {quantities[0]}'
  printed = [
    f'**Table {table}**{what}; {config}:\n',
    _markdown_row(['', *columns, 'Variant']),
    _markdown_row(['---', *['---:'] * len(columns), '---']),
  ]
  notes = []
  for line in lines:
    cells = [[f.get(q) for _, f in line] for q in quantities]
    if has_costs:
      values = [f'{_paper(c)} / {_ours(c)}' for c in cells]
    else:
      here = line[0][0].variant is not None
      values = [_paper(cells[0]), _ours(cells[0]) if here else '–']
      scores = [small_tables.score_of(table, row, small) for row, _ in line]
      values.append(' / '.join(dict.fromkeys(scores)))
    names = ' / '.join(row.name.strip() for row, _ in line)
    variants = dict.fromkeys(_variant(row.variant) for row, _ in line)
    printed.append(_markdown_row([names, *values, ', '.join(variants)]))
    notes += [
      f'* {row.name.strip() if len(line) == 1 else _variant(row.variant)}:'
      f' {f[q]["note"]}.'
      for row, f in line
      for q in quantities
      if row.variant is not None and q in f and f[q]['note']
    ]
  return '\n'.join([*printed, *([''] if notes else []), *notes])


def _markdown_row(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'.replace('|  |', '| |')


def _variant(name: str | None) -> str:
  return 'literature' if name is None else f'`{name}`' if name else 'default'


def _paper(figures: Sequence[Figure | None]) -> str:
  return ' / '.join('–' if f is None else str(f['paper']) for f in figures)


def _ours(figures: Sequence[Figure | None]) -> str:
  if figures == [None]:
    return '–'
  ours = [f['ours'] if f else None for f in figures]
  if not any(x is not None for x in ours):
    return 'not run'
  return ' / '.join('not run' if x is None else str(x) for x in ours)
