"""Effects of a config's keys, which tell what a run may change.

Keys of `model` and `task` are fields of a class, whose annotations say their
effects: see `perceiver.effects`. Keys of other sections change no function.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from experiments import benchmarks
from experiments.models import MODELS
from perceiver import effects
from perceiver.effects import Effect

SECTIONS = {
  'seed': Effect.TRAINING,
  'data': Effect.TRAINING,
  'optimizer': Effect.TRAINING,
  'train': Effect.TRAINING,
  'eval': Effect.EVALUATION,
}
NAMES = ('task.name', 'model.name')  # They name those classes.


def effect(key: str, config: Mapping[str, Any]) -> Effect:
  """Returns the effect of another value of a key.

  Args:
    key: 'section.key', or 'seed'.
    config: names the classes of the task and the model.

  Raises:
    KeyError: for an unknown section.
  """
  section, _, name = key.partition('.')
  if section not in ('task', 'model'):
    return SECTIONS[section]
  # A name, and a key that the class lacks, have no annotation.
  return effects.of_fields(_owner(section, config)).get(name, Effect.FUNCTION)


def defaults(config: Mapping[str, Any]) -> dict[str, Any]:
  """Values of the keys of 'task' and 'model' that a config need not have."""
  return {
    f'{section}.{field.name}': field.default
    for section in ('task', 'model')
    for field in dataclasses.fields(_owner(section, config))
    if field.default is not dataclasses.MISSING
  }


def _owner(section: str, config: Mapping[str, Any]) -> Any:
  name = config[section]['name']
  return benchmarks.find(name) if section == 'task' else MODELS[name]
