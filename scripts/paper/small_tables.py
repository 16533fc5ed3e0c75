"""The paper's tables, figures and claims in small, and what came of each.

  python -m scripts.tables --small

The results are those that `scripts.sweep` left in experiments/results/small.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses

from scripts.paper import claims
from scripts.paper.results import Result
from scripts.paper.rows import METRICS, Row, TABLES

# The small variant of each of the paper's rows, by the row's own. Those of
# Table 6 have four latent Transformers instead of eight.
TABLE2 = {
  'resnet50': 'table2_resnet',
  'resnet50_permuted': 'table2_resnet_permuted',
  'vit_b16': 'table2_vit',
  'vit_b16_permuted': 'table2_vit_permuted',
  'transformer64': 'table2_transformer',
  'transformer64_permuted': 'table2_transformer_permuted',
  '': 'table2_perceiver',
  'permuted': 'table2_perceiver_permuted',
  'learned': 'table2_learned',
  'learned_permuted': 'table2_learned_permuted',
}
TABLE3 = {
  'raw': 'table3_raw',
  'mel': 'table3_mel',
  'video': 'table3_video',
  '': 'table3_av_raw',
  'av_mel': 'table3_av_mel',
  'av_mel_tuned': 'table3_av_mel_tuned',
  'av_raw_no_video_dropout': 'table3_av_raw_no_video_dropout',
  'av_mel_no_video_dropout': 'table3_av_mel_no_video_dropout',
}
TABLE4 = {
  'resnet50': 'table4_resnet',
  'vit_b_patch2': 'table4_vit_patch2',
  'vit_b_patch4': 'table4_vit_patch4',
  'vit_b_patch8': 'table4_vit_patch8',
  'vit_b_patch16': 'table4_vit_patch16',
  'transformer44': 'table4_transformer',
  '': 'table4_perceiver',
}
TABLE5 = {'table5_4': 'table5_4', 'table5_8': 'table5_8'}
TABLE6 = {
  'table6_1_interleaved': 'table6_1',
  'table6_2_at_start': 'table6_2_at_start',
  'table6_2_interleaved': 'table6_2_interleaved',
  'table6_4_at_start': 'table6_4_at_start',
  'table6_4_interleaved': 'table2_perceiver',
}
TABLE7 = {'table7_not_shared': 'table7_not_shared', '': 'table2_perceiver'}
SMALL = {2: TABLE2, 3: TABLE3, 4: TABLE4, 5: TABLE5, 6: TABLE6, 7: TABLE7}
# The configs of small variants, where they are not Fashion-MNIST's.
CONFIGS = {3: 'audioset', 4: 'modelnet40'}
# What the paper has no row of.
MORE_ROWS = {5: (('2 cross-attends alone', 'table5_2'),)}
# Of the paper's column for the training set.
TABLE7_TRAIN = {'table7_not_shared': 87.7, 'table2_perceiver': 79.5}

# The variant of each point, by what is swept. The paper prints no values.
FIGURES: dict[str, dict[str, dict[float, str]]] = {
  '5': {
    'latents': {
      8: 'fig5_latents_8',
      16: 'table7_not_shared',
      32: 'fig5_latents_32',
    },
    'latent channels': {
      32: 'fig5_channels_32',
      64: 'table7_not_shared',
      128: 'fig5_channels_128',
    },
    'self-attends per block': {
      1: 'table7_not_shared',
      2: 'fig5_self_attends_2',
      4: 'fig5_self_attends_4',
    },
    'cross-attends': {
      1: 'fig5_cross_attends_1',
      2: 'fig5_cross_attends_2',
      4: 'table7_not_shared',
    },
  },
  '6': {
    'init scale of the latents': {
      0.02: 'table2_perceiver',
      0.2: 'fig6_init_scale_0.2',
      1.0: 'fig6_init_scale_1.0',
    },
    'bands': {2: 'fig6_bands_2', 4: 'fig6_bands_4', 8: 'table2_perceiver'},
    'maximum resolution': {
      7: 'fig6_max_resolution_7',
      14: 'fig6_max_resolution_14',
      28: 'table2_perceiver',
    },
  },
}

Results = Mapping[str, Result]  # By 'config:variant'.


@dataclasses.dataclass(frozen=True)
class Line:
  """A row in small: what the paper has, and what came of it here."""

  name: str
  title: str  # 'config:variant'
  paper: float | None
  result: Result | None  # None: not run.


def variant_of(table: int, row: Row) -> str | None:
  """The small variant of a table's row; None if there is none."""
  if row.variant is None:  # From the literature.
    return None
  # Table 1's are rows of Table 2.
  return SMALL[2 if table == 1 else table].get(row.variant)


def score_of(table: int, row: Row, results: Results) -> str:
  """What came of a row in small, in %, with its standard error."""
  variant = variant_of(table, row)
  if variant is None:
    return '–'
  config = CONFIGS.get(table, 'fashion_mnist')
  return percent(results.get(f'{config}:{variant}'))


def lines(table: int, results: Results) -> list[Line]:
  """The rows of a table that there are in small, in the paper's order."""
  config = CONFIGS.get(table, 'fashion_mnist')
  _, rows = TABLES[table]
  found: list[tuple[str, str, float | None]] = []
  for name, small in MORE_ROWS.get(table, ()):
    found.append((name, small, None))
  above = ''
  for row in rows:
    if not row.name.startswith(' '):
      above = row.name
    variant = variant_of(table, row)
    if variant is None or variant in [other for _, other, _ in found]:
      continue
    name = row.name.strip()
    if name != row.name:
      name = f'{above}: {name}'
    (paper,) = (x for q, x in row.paper.items() if q in METRICS)
    found.append((name, variant, paper))
  return [
    Line(name, f'{config}:{variant}', paper, results.get(f'{config}:{variant}'))
    for name, variant, paper in found
  ]


def points(
  figure: str, results: Results
) -> dict[str, list[tuple[float, Result | None]]]:
  """(value, result) of each point, by what is swept."""
  return {
    axis: [
      (x, results.get(f'fashion_mnist:{variant}')) for x, variant in by.items()
    ]
    for axis, by in FIGURES[figure].items()
  }


def percent(result: Result | None) -> str:
  """The score and its standard error."""
  if result is None:
    return 'not run'
  return f'{100 * result.score:.2f} ± {100 * result.standard_error:.2f}'


def _rate(result: Result | None) -> str:
  """The learning rate, in bold among those that it was picked from."""
  if result is None:
    return ''
  return ', '.join(
    f'**{rate:g}**' if rate == result.learning_rate else f'{rate:g}'
    for rate in result.tried
  )


def table_markdown(table: int, results: Results) -> str:
  """A table in small, as Markdown."""
  some = lines(table, results)
  metric = 'mAP' if table == 3 else 'top-1'
  header = ['', 'variant', 'paper', f'ours, {metric} %']
  header += ['seeds', 'learning rate', 'min']
  if table == 7:
    header[4:4] = ["paper's training", 'ours']
  rows = []
  for line in some:
    result = line.result
    variant = line.title.partition(':')[2]
    cells = [
      line.name,
      f'`{variant}`',
      '–' if line.paper is None else f'{line.paper}',
      percent(result),
      '' if result is None else str(len(result.scores)),
      _rate(result),
      '' if result is None else f'{60 * result.hours:.0f}',
    ]
    if table == 7:
      train = 'not run'
      if result is not None and result.train is not None:
        train = f'{100 * result.train:.2f}'
      cells[4:4] = [f'{TABLE7_TRAIN[variant]}', train]
    rows.append(cells)
  return f'**Table {table} in small**\n\n{_markdown(header, rows)}'


def figure_markdown(figure: str, results: Results) -> str:
  """A figure's points in small, as Markdown."""
  rows = [
    [axis, f'{x:g}', percent(r), _rate(r), f'{60 * r.hours:.0f}' if r else '']
    for axis, some in points(figure, results).items()
    for x, r in some
  ]
  header = ['', 'value', 'ours, top-1 %', 'learning rate', 'min']
  return f'**Figure {figure} in small**\n\n{_markdown(header, rows)}'


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  def line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'.replace('|  |', '| |')

  rule = ['---', *['---:'] * (len(header) - 1)]
  return '\n'.join(line(cells) for cells in (header, rule, *rows))


def report(results: Results, tables: Sequence[int] = ()) -> str:
  """All of it as Markdown, the claims first.

  Args:
    results: of the sweeps.
    tables: their numbers; none: all, the figures and the claims.

  Raises:
    ValueError: for a table that there is not in small.
  """
  for table in set(tables) - SMALL.keys():
    raise ValueError(f'--table={table}: in small there are {[*SMALL]}.')
  parts = []
  if not tables:
    parts.append(claims.markdown(results))
  parts += [table_markdown(table, results) for table in tables or SMALL]
  if not tables:
    parts += [figure_markdown(figure, results) for figure in FIGURES]
  else:
    shown = {line.title for table in tables for line in lines(table, results)}
    results = {title: x for title, x in results.items() if title in shown}
  parts.append('\n'.join(f'* {line}' for line in provenance(results)))
  return '\n\n'.join(part for part in parts if part)


def provenance(results: Results) -> Iterator[str]:
  """What made the results: a line for each command, commit and device."""
  made: dict[tuple[str, str, str], float] = {}
  for result in results.values():
    key = (result.command, result.commit, result.device)
    made[key] = made.get(key, 0.0) + result.hours
  for (command, commit, device), hours in made.items():
    yield f'`{command}` (commit {commit[:7]}, {device}, {hours:.1f} hours)'
