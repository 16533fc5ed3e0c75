"""The paper's tables beside ours: `python -m scripts.tables --table=6`.

Tables 5 to 7 have costs: parameters are counted from the shapes of the config's
model, and FLOPs from the config by the paper's rule; nothing is allocated.
Accuracies are read from the given runs:

  python -m scripts.tables --table=2 --runs=runs/permuted,runs/resnet50

A shorter form in Markdown, for a README:

  python -m scripts.tables --table=1,2,3,4 --format=markdown

All tables and figures in small, with the results of `scripts.sweep`, and which
of the paper's claims hold:

  python -m scripts.tables --small
"""

import json
import sys

from absl import app, flags

from experiments import path_flags
from scripts.paper import results, small
from scripts.paper import runs as our_runs
from scripts.paper.rows import TABLES
from scripts.shared import command
from scripts.tables import comparison, formats


@command.running()
def main(argv: list[str]) -> None:
  del argv
  chosen = [int(table) for table in _TABLES.value]
  if _SMALL.value:
    known = results.read(_RESULTS.value or results.RESULTS)
    print(small.report(known, chosen))
    return
  runs = [our_runs.read_run(workdir) for workdir in _RUNS.value]
  if _FORMAT.value == 'markdown':
    print('\n\n'.join(formats.markdown(table, runs) for table in chosen))
    return
  figures = {table: comparison.compare(table, runs) for table in chosen}
  if _FORMAT.value == 'json':
    one = figures[chosen[0]] if len(chosen) == 1 else figures
    json.dump(one, sys.stdout, indent=1)
    print()
    return
  for table in chosen:
    if table != chosen[0]:
      print()
    print(f'Table {table} (costs: forward pass of one example)')
    print(formats.text(figures[table]))
    if table == 5:
      print(comparison.measured())


if __name__ == '__main__':
  _TABLES = flags.DEFINE_list('table', [], 'Numbers of tables: 1,2,3.')
  _SMALL = flags.DEFINE_bool(
    'small', False, 'Print the tables, figures and claims in small.'
  )
  _RESULTS = path_flags.define_path(
    'results', None, "With --small: a sweep's results.json; default: ours."
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
    'format', 'text', ['text', 'json', 'markdown'], 'Form of the output.'
  )
  _RUNS = path_flags.define_paths(
    'runs', [], 'Workdirs of runs whose metrics to print.'
  )
  flags.register_multi_flags_validator(
    ['small', 'results', 'format', 'runs'],
    lambda values: (
      values['format'] == 'text' and not values['runs']
      if values['small']
      else values['results'] is None
    ),
    '--results needs --small; --format and --runs do not go with it.',
  )
  app.run(main)
