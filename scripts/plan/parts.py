"""The part of the model that an operation of a compiled program belongs to."""

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
  """Operations at these places of the code: modules, packages, functions.

  Their paths and names are the code's own, so moving them breaks no rule.
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
# The first that matches 'op_name file:function' names the part of the model.
# Haiku's scopes are in op_name; what has none is told apart by where it is.
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
  ('head', _at(perceiver)),  # All that is left of the model pools.
  ('optimiser', _at(optimizers, optax)),
  ('loss', _at(evaluate.make_eval_step)),
  ('optimiser', _at(train_step.make_train_step)),
)
OTHER = 'other'
PARTS = tuple(dict.fromkeys([*(name for name, _ in RULES), OTHER]))


def part_of(op_name: str, source: str) -> str | None:
  """The part of the model that an operation belongs to, if it tells.

  Args:
    op_name: its scope.
    source: 'file:function' of the frame that it comes from; or ''.
  """
  where = f'{op_name} {source}'
  return next((name for name, rule in RULES if re.search(rule, where)), None)
