"""Prints the table of docs/running.md: which keys a run may change.

python -m docs.keys
"""

from collections.abc import Iterator
import importlib
import itertools
from typing import Any

from configs import base
from experiments import benchmarks, config_effects, saved
from perceiver.effects import Effect
from scripts.shared import markdown

HEADS = {
  Effect.FUNCTION: 'Must stay',
  Effect.COMPUTATION: 'How it is computed',
  Effect.TRAINING: 'How it is trained',
  Effect.EVALUATION: 'How it is evaluated',
}


def table() -> str:
  """Returns the table: a row for each section, each task and each model."""
  header = ['Section', *HEADS.values()]
  return markdown.table(header, itertools.starmap(_cells, _rows()))


def _rows() -> Iterator[tuple[str, dict[str, Effect]]]:
  """Yields each row's title and the effects of its keys by name."""
  for section, effect in config_effects.SECTIONS.items():
    yield f'`{section}`', {'all': effect}
  for name in base.MODELS:
    config = {'model': {'name': name, 'num_classes': 0, **base.MODELS[name]}}
    yield f'`model`, {name}', _effects('model', config)
  for name in sorted(benchmarks.TASKS):
    config = importlib.import_module(f'configs.{name}').get_config().to_dict()
    yield f'`task`, {name}', _effects('task', config)


def _effects(section: str, config: dict[str, Any]) -> dict[str, Effect]:
  return {
    f'`{key}`': config_effects.effect(f'{section}.{key}', config)
    for key in saved.flat(config[section])
  }


def _cells(title: str, effects: dict[str, Effect]) -> list[str]:
  columns = [
    ', '.join(key for key, x in effects.items() if x == effect)
    for effect in HEADS
  ]
  return [title, *columns]


if __name__ == '__main__':
  print(table())
