"""The registry of benchmarks, by the name that a config gives them.

Each benchmark has a room with its task, its data, their preparation and their
stand-in. A room is imported only when a config asks for it, so no benchmark
needs the packages of another.
"""

import pkgutil
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:  # Processes that decode import this too, without JAX.
  from experiments.task import Task

TASKS = {
  'audioset': 'audioset.task:AudioSet',
  'digits': 'digits:Digits',
  'fashion_mnist': 'fashion_mnist:FashionMnist',
  'imagenet': 'imagenet.task:ImageNet',
  'modelnet40': 'modelnet40.task:ModelNet40',
}


def create(name: str, **settings: Any) -> 'Task':
  """Creates the task of that name from the rest of a config's `task` section.

  Raises:
    ValueError: for an unknown name, or settings out of their range.
    TypeError: for settings that the task does not have.
  """
  from perceiver import ranges  # Which imports JAX.

  task = find(name)
  ranges.check(task, settings, 'task.')
  return task(**settings)


def find(name: str) -> 'type[Task]':
  """The class of a task. Raises ValueError for an unknown name."""
  if name not in TASKS:
    raise ValueError(f'No task {name!r}; there are {sorted(TASKS)}.')
  return pkgutil.resolve_name(f'{__name__}.{TASKS[name]}')
