"""The benchmarks, by the name that a config gives them."""

from typing import Any

from experiments.benchmarks.audioset.task import AudioSet
from experiments.benchmarks.digits import Digits
from experiments.benchmarks.fashion_mnist import FashionMnist
from experiments.benchmarks.imagenet.task import ImageNet
from experiments.benchmarks.modelnet40.task import ModelNet40
from experiments.task import Batch, Task

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
