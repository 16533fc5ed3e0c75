"""The paper's tables, figures and claims in small, with a sweep's results."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import statistics

from scripts.paper import agreement, verdicts
from scripts.paper.results import Result
from scripts.paper.rows import FIGURES, Row, SMALL_TABLES, TABLES, title
from scripts.shared import markdown

Results = Mapping[str, Result]  # By 'config:variant'; none: not run.
Panel = list[tuple[float, Result | None]]  # The value of each point, and ours.


@dataclasses.dataclass(frozen=True)
class Line:
  """One row in small: the paper's row and our result."""

  name: str
  row: Row
  title: str  # 'config:variant'
  result: Result | None  # None: not run.


def quantity(table: int) -> str:
  """The quantity that a table's rows are evaluated for in small."""
  return 'mAP' if table == 3 else 'top-1 %'


def lines(table: int, results: Results) -> list[Line]:
  """The rows of a table that are trained in small, each variant once."""
  found: dict[str, Line] = {}
  above = ''
  for row in TABLES[table].rows:
    name = row.name.strip()
    if name == row.name:
      above = name
    else:
      name = f'{above}: {name}'
    if row.small is not None and row.small not in found:
      key = title(row.small)
      found[row.small] = Line(name, row, key, results.get(key))
  return list(found.values())


def points(figure: str, results: Results) -> dict[str, Panel]:
  """The panels of a figure, by the setting that each varies."""
  return {
    setting: [(x, results.get(title(small))) for x, small in panel.items()]
    for setting, panel in FIGURES[figure].items()
  }


def percent(result: Result | None) -> str:
  """The score in %, and its standard error."""
  if result is None:
    return 'not run'
  return f'{100 * result.score:.2f} ± {100 * result.standard_error:.2f}'


def report(results: Results, tables: Sequence[int] = ()) -> str:
  """Returns the claims, tables and figures in Markdown.

  Args:
    results: of sweeps.
    tables: their numbers; none: all tables, the figures and the claims.

  Raises:
    ValueError: for a table that has no rows in small.
  """
  for table in set(tables) - set(SMALL_TABLES):
    raise ValueError(f'--table={table}: in small there are {[*SMALL_TABLES]}.')
  parts = [_table(table, results) for table in tables or SMALL_TABLES]
  if tables:
    shown = {line.title for table in tables for line in lines(table, results)}
    results = {name: x for name, x in results.items() if name in shown}
  else:
    judgements = verdicts.judge_all(results)
    parts = [
      verdicts.summary(judgements),
      verdicts.table(judgements, results),
      agreement.table(results),
      _rise(results),
      *parts,
    ]
    parts += [_figure(figure, results) for figure in FIGURES]
  parts.append('\n'.join(f'* {line}' for line in _provenance(results)))
  return '\n\n'.join(part for part in parts if part)


def _rise(results: Results) -> str:
  """Says what training longer than the trials gave; '' if nothing is known."""
  rises = [
    statistics.fmean(x.held_out) - tried
    for x in results.values()
    if x.held_out and (tried := x.tried.get(x.learning_rate)) is not None
  ]
  if not rises:
    return ''
  low, high = (verdicts.signed(x) for x in (min(rises), max(rises)))
  return (
    'On held-out examples the whole training scored'
    f' {low} to {high} points more than the trial at the same rate did.'
  )


def _table(table: int, results: Results) -> str:
  metric = quantity(table).removesuffix(' %')
  header = ['', 'variant', 'paper', f'ours, {metric} %']
  header += ['seeds', 'learning rate', 'min']
  if table == 7:
    header[4:4] = ["paper's training", 'ours']
  rows = []
  for line in lines(table, results):
    result = line.result
    cells: list[object] = [
      line.name,
      f'`{line.row.small}`',
      '–' if line.row.score is None else line.row.score,
      percent(result),
      len(result.scores) if result else '',
      _rates(result),
      _minutes(result),
    ]
    if table == 7:
      train = 'not run'
      if result is not None and result.train is not None:
        train = f'{100 * result.train:.2f}'
      cells[4:4] = [line.row.train, train]
    rows.append(cells)
  return _titled(f'Table {table}', header, rows)


def _figure(figure: str, results: Results) -> str:
  rows = [
    [setting, f'{x:g}', percent(result), _rates(result), _minutes(result)]
    for setting, panel in points(figure, results).items()
    for x, result in panel
  ]
  header = ['', 'value', 'ours, top-1 %', 'learning rate', 'min']
  return _titled(f'Figure {figure}', header, rows)


def _titled(
  name: str, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> str:
  aligns = 'l' + 'r' * (len(header) - 1)
  return f'**{name} in small**\n\n{markdown.table(header, rows, aligns)}'


def _rates(result: Result | None) -> str:
  """The learning rates that were tried, the one that was picked in bold."""
  if result is None:
    return ''
  return ', '.join(
    f'**{rate:g}**' if rate == result.learning_rate else f'{rate:g}'
    for rate in result.tried
  )


def _minutes(result: Result | None) -> str:
  return f'{60 * result.hours:.0f}' if result else ''


def _provenance(results: Results) -> Iterator[str]:
  """The commands, commits and devices that made the results."""
  made: dict[tuple[str, str], list[Result]] = {}
  for result in results.values():
    made.setdefault((result.command, result.device), []).append(result)
  for (command, device), by_it in made.items():
    commits = sorted({commit[:7] for x in by_it for commit in x.commits})
    hours = sum(x.hours for x in by_it)
    yield (
      f'`{command}` (commit {", ".join(commits)}, {device},'
      f' {hours:.1f} hours of runs)'
    )
