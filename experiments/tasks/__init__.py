"""The benchmarks, by the name that a config gives them."""

from typing import Any

from experiments.tasks.audioset import AudioSet
from experiments.tasks.base import Batch, Task
from experiments.tasks.digits import Digits
from experiments.tasks.fashion_mnist import FashionMnist
from experiments.tasks.imagenet import ImageNet
from experiments.tasks.modelnet40 import ModelNet40

TASKS: dict[str, type[Task]] = {
  'audioset': AudioSet,
  'digits': Digits,
  'fashion_mnist': FashionMnist,
  'imagenet': ImageNet,
  'modelnet40': ModelNet40,
}

__all__ = ['Batch', 'Task', 'create']


def create(name: str, **settings: Any) -> Task:
  """The task of that name, with the rest of a config's `task` section."""
  if name not in TASKS:
    raise ValueError(f'No task {name!r}; there are {sorted(TASKS)}.')
  return TASKS[name](**settings)
