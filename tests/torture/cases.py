"""Small runs, and their data, that are trained while faults happen."""

import dataclasses
import os

from experiments.benchmarks.audioset import preparation
from experiments.benchmarks.audioset import standin as clips
from experiments.benchmarks.imagenet import standin as images
from experiments.benchmarks.modelnet40 import preparation as shapes
from experiments.benchmarks.modelnet40 import standin as solids

# Little, but all that there is to go wrong: dropout, workers, augmentation.
TINY = (
  *('model.num_latents=8', 'model.latent_channels=16'),
  *('model.num_self_attends=1', 'model.self_attend_heads=2'),
  *('model.dropout_rate=0.1', 'data.num_workers=1'),
  *('train.steps=40', 'train.log_every=1'),
  *('train.checkpoint_every=4', 'train.eval_every=10'),
)


@dataclasses.dataclass(frozen=True)
class Case:
  """A training, in one process or in several on this machine."""

  name: str
  config: str
  settings: tuple[str, ...] = ()  # KEY=VALUE
  processes: int = 1
  devices: int = 1  # Per process.


def image_case(folder: str) -> Case:
  """Returns ImageNet's stand-in, with RandAugment, mixup and CutMix."""
  data = os.path.join(folder, 'images')
  images.generate(data, 96, 24, seed=0)
  own = (f'data.dir={data}/tfds', 'task.num_train=96', 'task.num_eval=24')
  return Case('images', 'imagenet.py:tiny', (*own, *TINY))


def clip_case(folder: str) -> Case:
  """Returns AudioSet's stand-in, with video and sound dropped and masked."""
  data = os.path.join(folder, 'events')
  drawn = f'{data}-drawn'
  sizes = dict.fromkeys(clips.SIZES, 24)
  clips.generate(drawn, os.cpu_count() or 1, 0, sizes)
  preparation.prepare(f'{drawn}/clips', f'{drawn}/csv', data, 2)
  own = (
    *(f'data.dir={data}', 'task.num_train=48', 'task.num_eval=24'),
    *('task.num_eval_windows=2', 'task.image_size=16', 'task.num_bands=3'),
    *('train.batch_size=8', 'eval.batch_size=8'),
  )
  return Case('clips', 'audioset.py:events_av', (*own, *TINY))


def point_case(folder: str) -> Case:
  """Returns rotated solids; there are many to evaluate."""
  data = os.path.join(folder, 'solids')
  solids.generate(f'{data}.zip')
  shapes.prepare('solids', f'{data}.zip', data)
  own = (f'data.dir={data}', 'task.num_bands=3', 'train.batch_size=8')
  settings = (*own, *TINY, 'train.eval_every=20')
  return Case('points', 'modelnet40.py:solids', settings)


def digit_case(processes: int = 1, devices: int = 1) -> Case:
  """Returns digits, which need no data, in one process or several."""
  own = ('train.batch_size=48', 'eval.batch_size=48')
  return Case('digits', 'digits.py:smoke', (*own, *TINY), processes, devices)
