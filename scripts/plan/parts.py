"""Assigns the operations of a compiled program to parts of the model."""

import inspect
from pathlib import Path
import re
from typing import Any

import optax

from experiments import benchmarks, evaluate, optimizers, train_step
from experiments.task import Task
import perceiver
from perceiver import inputs, modalities, position_encoding

LOOPS = 'loops'


def _at(*places: Any) -> str:
  """Returns a pattern for operations in these modules, packages or functions.

  It takes paths and names from the objects, so moving code breaks no rule.
  """
  patterns = []
  for place in places:
    if inspect.ismodule(place):
      path = Path(place.__file__ or '')
      is_package = path.name == '__init__.py'
      pattern = f'{path.parent}/' if is_package else f'{path}:'
    else:
      pattern = f'{inspect.getfile(inspect.unwrap(place))}:{place.__qualname__}'
    patterns.append(re.escape(pattern))
  return f' ({"|".join(patterns)})'


_LOSS = Task.loss, Task.metrics, Task.scores, Task.outputs
# The first rule that matches 'op_name file:function' names the part. op_name
# has Haiku's scopes; operations without one are assigned by their source.
RULES = (
  ('optimiser', r'^state\.opt_state'),
  ('cross-attends', r'\bcross_attend_\d'),
  ('latent Transformers', r'\blatent_transformer_\d'),
  ('self-attends', r'\bself_attend_\d'),  # The baselines'.
  ('head', r'/(head|decoder|logits)\b'),
  ('convolutions', r'\bres_net\b'),
  ('input', r'/(patches|embedding)\b'),
  ('loss', rf' .*:.*\.({"|".join(f.__name__ for f in _LOSS)})\b'),
  ('loss', _at(optax.losses, evaluate.best_classes)),
  ('input', r'^batch\['),
  ('input', _at(benchmarks, inputs, modalities, position_encoding)),
  ('input', r'threefry'),  # Random keys, mostly for augmentation.
  (LOOPS, r'/while\b'),  # What a scan carries and keeps.
  ('input', rf'/{perceiver.Perceiver.encode.__name__}/'),
  ('head', _at(perceiver)),  # The rest of the model: pooling.
  ('optimiser', _at(optimizers, optax)),
  ('loss', _at(evaluate.make_eval_step)),
  ('optimiser', _at(train_step.make_train_step)),
)
OTHER = 'other'
PARTS = tuple(dict.fromkeys([*(name for name, _ in RULES), OTHER]))


def part_of(op_name: str, source: str) -> str | None:
  """Returns the part of the model that an operation belongs to, or None.

  `op_name` is its scope, `source` is 'file:function' of its stack frame or ''.
  """
  where = f'{op_name} {source}'
  return next((name for name, rule in RULES if re.search(rule, where)), None)
