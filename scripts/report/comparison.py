"""Compares a run with the paper's row and with the nearest variant."""

from collections.abc import Mapping
import importlib
import json
from typing import Any

from experiments import benchmarks, saved
from experiments.history import History
from scripts.paper import small
from scripts.paper.rows import METRICS, SMALL_TABLES, TABLES
from scripts.paper.runs import Run


def paper(history: History) -> list[tuple[str, str, float, float | None]]:
  """Returns table and row, quantity, the paper's figure, ours or None."""
  evaluations = [r for r in history.metrics if r['split'] != 'train']
  run = Run(history.workdir, history.config, evaluations)
  task = history.config['task'].get('name')
  found = []
  for number, table in TABLES.items():
    if table.config != task:
      continue
    module = importlib.import_module(f'configs.{task}')
    for row in table.rows:
      if row.variant is None or not run.is_of(module.get_config(row.variant)):
        continue
      for quantity in row.paper.keys() & METRICS.keys():
        ours = 100 * run.figure(quantity)[0] if evaluations else None
        title = f'Table {number}, {row.name.strip()}'
        found.append((title, quantity, row.paper[quantity], ours))
  return found or _in_small(run, task)


def _in_small(
  run: Run, task: str
) -> list[tuple[str, str, float, float | None]]:
  """Returns the same for a small variant, from the rows it stands for."""
  found = []
  for number in SMALL_TABLES:
    quantity = small.quantity(number)
    for line in small.lines(number, {}):
      name, _, variant = line.title.partition(':')
      if name != task or line.row.score is None:
        continue
      module = importlib.import_module(f'configs.{name}')
      if not run.is_of(module.get_config(variant)):
        continue
      ours = 100 * run.figure(quantity)[0] if run.evaluations else None
      title = f'Table {number} in small, {line.name}'
      found.append((title, quantity, line.row.score, ours))
  return found


def differences(history: History) -> tuple[str, list[tuple[str, str, str]]]:
  """Finds the config file and variant that differ least from the run's config.

  Returns:
    Their name, and each key that differs with the run's value and theirs.
  """
  mine = saved.flat(history.config.to_dict())
  name = history.config['task'].get('name')
  if name not in benchmarks.TASKS:
    return 'none', [(key, repr(x), '') for key, x in mine.items()]
  module = importlib.import_module(f'configs.{name}')

  def compare(variant: str) -> list[tuple[str, str, str]]:
    base = saved.flat(module.get_config(variant).to_dict())
    keys = dict.fromkeys([*mine, *base])
    return [
      (key, _shown(mine, key), _shown(base, key))
      for key in keys
      if _shown(mine, key) != _shown(base, key)
    ]

  by_variant = {variant: compare(variant) for variant in module.VARIANTS}
  nearest = min(by_variant, key=lambda variant: len(by_variant[variant]))
  suffix = f':{nearest}' if nearest else ''
  return f'configs/{name}.py{suffix}', by_variant[nearest]


def _shown(flat: Mapping[str, Any], key: str) -> str:
  if key not in flat:
    return '–'
  return json.dumps(flat[key], ensure_ascii=False, default=str)
