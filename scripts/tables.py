"""The paper's tables beside ours: `python -m scripts.tables --table=6`.

Tables 5 to 7 have costs: parameters are counted from the shapes of the model
that the config builds, FLOPs from the config by the paper's rule; nothing is
allocated. Accuracies are read from the runs that are given:

  python -m scripts.tables --table=2 --runs=runs/permuted,runs/resnet50

As Markdown, shorter, for a README:

  python -m scripts.tables --table=1,2,3,4 --format=markdown

In small, from what `scripts.sweep` left: all of them, the figures' points and
which of the paper's claims hold.

  python -m scripts.tables --small
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import importlib
import json
import pathlib
import sys
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from experiments import (
  benchmarks,
  experiment,
  models,
  path_flags,
  saved,
  telemetry,
)
from perceiver import cost
from scripts import table_formats
from scripts.paper_tables import COST_TABLES, DIGITS, METRICS, Row, TABLES
from scripts.shared import command
from scripts.sweeping import results, small_tables

UNITS = {
  'GFLOPs': 1e9,
  'M parameters': 1e6,
  'top-1 %': 0.01,
  'best top-1 %': 0.01,
  'mAP': 0.01,
}
MEASURED = pathlib.Path(__file__).parent.parent / (
  'experiments/results/table5_12.json'
)
# Keys that change how a model is computed, not which one it is.
COMPUTED = (
  'attention',
  'attention_tile',
  'attention_kernel',
  'compute_dtype',
  'remat',
)


def costs(config: ConfigDict) -> dict[str, float]:
  """FLOPs and parameters of a config's model."""
  params, _ = models.model_shapes(config)
  return {
    'GFLOPs': models.forward_flops(config),
    'M parameters': cost.count_parameters(params),
  }


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run's directory tells of it."""

  workdir: str
  config: ConfigDict
  evaluations: list[dict[str, Any]]  # In the order of the steps.

  def is_of(self, config: ConfigDict) -> bool:
    """Whether it trained that config's model on that config's task."""
    return _identity(self.config) == _identity(config)

  def figure(self, quantity: str) -> tuple[float, str]:
    """The value of one of `METRICS`, and a note on where it is from."""
    name = METRICS[quantity]
    chosen, note = self.evaluations[-1], ''
    if quantity.startswith('best'):
      score = lambda evaluation: evaluation[name]
      tests = {e['step']: e for e in self.evaluations if e['split'] == 'test'}
      chosen = max(tests.values(), key=score, default=chosen)
      held_out = [
        e
        for e in self.evaluations
        if e['split'] == 'validation' and e['step'] in tests
      ]
      if held_out:
        picked = tests[max(held_out, key=score)['step']]
        note = f'; {100 * picked[name]:.1f} where the validation split picks'
    task = benchmarks.create(**self.config.task)
    total = experiment.total_steps(self.config, task)
    note = f'{self.workdir}, step {chosen["step"]} of {total}{note}'
    return chosen.get(name, float('nan')), note


def read_run(workdir: str) -> Run:
  """Reads a run. Raises ValueError if it is none or was never evaluated."""
  try:
    config = saved.read_config(workdir)
  except FileNotFoundError as error:
    raise ValueError(f'--runs: {error}') from error
  evaluations = [
    r for r in telemetry.read_metrics(workdir) if r['split'] != 'train'
  ]
  if not evaluations:
    raise ValueError(f'--runs: {workdir} has no evaluation yet.')
  return Run(workdir, config, evaluations)


def _identity(config: ConfigDict) -> tuple[Any, Any]:
  """What tells models and tasks apart.

  Keys that a config lacks, as those of older runs do, are as by default.
  """
  task, model = config['task'], config['model']
  # A held-out part makes no other benchmark: the test set stays the same.
  other = {'validation_fraction'}
  if task['name'] == 'audioset':
    # Its clips vanish from the web: nobody has as many as another.
    other |= {'num_train', 'num_eval'}
  task_class = type(benchmarks.create(**task))
  model_class = models.MODELS[model['name']]
  return (
    {k: v for k, v in _with_defaults(task_class, task) if k not in other},
    {k: v for k, v in _with_defaults(model_class, model) if k not in COMPUTED},
  )


def _with_defaults(
  cls: Any, settings: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
  for field in dataclasses.fields(cls):
    if field.default is not dataclasses.MISSING and field.name not in settings:
      yield field.name, field.default
  yield from settings.items()


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
        ours = costs(config)
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
  return table_formats.markdown(table, _by_row(table, runs), small)


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
  chosen = [int(table) for table in _TABLES.value]
  with command.running():
    if _SMALL.value:
      known = results.read(_RESULTS.value or results.RESULTS)
      print(small_tables.report(known, chosen))
      return
    runs = [read_run(workdir) for workdir in _RUNS.value]
    if _FORMAT.value == 'markdown':
      print('\n\n'.join(as_markdown(table, runs) for table in chosen))
      return
    figures = {table: compare(table, runs) for table in chosen}
  if _FORMAT.value == 'json':
    one = figures[chosen[0]] if len(chosen) == 1 else figures
    json.dump(one, sys.stdout, indent=1)
    print()
    return
  for table in chosen:
    if table != chosen[0]:
      print()
    print(f'Table {table} (costs: forward pass of one example)')
    print(table_formats.text(figures[table]))
    if table == 5:
      print(measured())


if __name__ == '__main__':
  _TABLES = flags.DEFINE_list('table', [], 'Which table, or tables.')
  _SMALL = flags.DEFINE_bool('small', False, 'In small.')
  _RESULTS = path_flags.define_path(
    'results', None, "With --small: a sweep's results.json; none: our own."
  )
  flags.register_multi_flags_validator(
    ['table', 'small'],
    lambda values: (
      set(values['table']) <= {str(t) for t in TABLES}
      and bool(values['table'] or values['small'])
    ),
    f'--table is one of {", ".join(map(str, TABLES))}, or several: 1,2,3.',
  )
  _FORMAT = flags.DEFINE_enum(
    'format', 'text', ['text', 'json', 'markdown'], 'How to print it.'
  )
  _RUNS = path_flags.define_paths(
    'runs', [], 'Workdirs of runs, for their metrics.'
  )
  flags.register_multi_flags_validator(
    ['small', 'results', 'format', 'runs'],
    lambda values: (
      values['format'] == 'text' and not values['runs']
      if values['small']
      else values['results'] is None
    ),
    '--results is for --small alone; --format and --runs are not for it.',
  )
  app.run(main)
