"""A table's figures as text and as Markdown."""

from collections.abc import Sequence

from scripts.paper import results, small
from scripts.paper.rows import COST_TABLES, METRICS, Row, TABLES, title
from scripts.paper.runs import Run
from scripts.shared import markdown as markdown_tables
from scripts.tables import comparison
from scripts.tables.comparison import Figure

# Rows that the paper has side by side, each with its figures by quantity.
Line = list[tuple[Row, dict[str, Figure]]]


def text(figures: Sequence[Figure]) -> str:
  """One line for each figure."""
  lines = [f'{"":26}{"":14}{"paper":>8}{"ours":>9}{"diff.":>8}']
  for f in figures:
    line = f'{f["row"]:26}{f["quantity"]:14}{f["paper"]:8}'
    if f['ours'] is None:
      line += f'{"not run":>9}{"":8}'
    else:
      line += f'{f["ours"]:9}{f["difference"]:8}'
    lines.append(line + (f'  ({f["note"]})' if f['note'] else ''))
  return '\n'.join(line.rstrip() for line in lines)


def markdown(table: int, runs: Sequence[Run] = ()) -> str:
  """A table for a README, in few lines and columns.

  Rows that the paper has side by side share a line, as 'raw / permuted'. Only
  the columns of the paper's table are there, and our scores in small. A title
  explains the columns, and notes below explain figures.
  """
  lines = _lines(table, runs)
  has_costs = table in COST_TABLES
  found = dict.fromkeys(q for line in lines for _, fs in line for q in fs)
  quantities = [q for q in found if has_costs or q in METRICS]
  columns = quantities if has_costs else ['Paper', 'Ours', 'In small']
  known = results.read(results.RESULTS)
  rows = []
  for line in lines:
    cells = [[f.get(q) for _, f in line] for q in quantities]
    if has_costs:
      values = [f'{_paper(c)} / {_ours(c)}' for c in cells]
    else:
      is_ours = line[0][0].variant is not None
      ours = _ours(cells[0]) if is_ours else '–'
      values = [_paper(cells[0]), ours, _in_small(line, known)]
    names = ' / '.join(row.name.strip() for row, _ in line)
    variants = dict.fromkeys(_variant(row.variant) for row, _ in line)
    rows.append([names, *values, ', '.join(variants)])
  what = ', paper / ours' if has_costs else f', {quantities[0]}'
  config = f'`--config=configs/{TABLES[table].config}.py:VARIANT`'
  parts = [
    f'**Table {table}**{what}; {config}:',
    markdown_tables.table(
      ['', *columns, 'Variant'], rows, f'l{"r" * len(columns)}l'
    ),
    '\n'.join(_notes(lines, quantities)),
  ]
  return '\n\n'.join(filter(None, parts))


def _lines(table: int, runs: Sequence[Run]) -> list[Line]:
  lines: list[Line] = []
  for row, figures in comparison.by_row(table, runs):
    if not row.name.startswith(' '):
      lines.append([])
    lines[-1].append((row, {f['quantity']: f for f in figures}))
  return lines


def _in_small(line: Line, known: small.Results) -> str:
  scores = [
    '–' if row.small is None else small.percent(known.get(title(row.small)))
    for row, _ in line
  ]
  return ' / '.join(dict.fromkeys(scores))


def _notes(lines: Sequence[Line], quantities: Sequence[str]) -> list[str]:
  return [
    f'* {row.name.strip() if len(line) == 1 else _variant(row.variant)}:'
    f' {figures[q]["note"]}.'
    for line in lines
    for row, figures in line
    for q in quantities
    if row.variant is not None and q in figures and figures[q]['note']
  ]


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
