"""ImageNet end to end, on real JPEG files in the layouts people have."""

import collections
import itertools
import json

import numpy as np
import pytest

from configs import imagenet
from experiments import (
  benchmarks,
  experiment,
  pipeline,
  sharding,
  telemetry,
  train,
)
from experiments.errors import DamagedRecordError

COUNTS = {'train': 24, 'validation': 12}


def tiny(data_dir, **overrides):
  config = imagenet.get_config('tiny')
  config.update_from_flattened_dict(
    {
      'data.dir': str(data_dir),
      'data.num_workers': 0,
      'task.num_train': COUNTS['train'],
      'task.num_eval': COUNTS['validation'],
    }
    | overrides
  )
  return config


def task_and_source(data_dir, split, **overrides):
  task = benchmarks.create(**tiny(data_dir, **overrides).task)
  return task, task.source(split, str(data_dir))


@pytest.mark.parametrize('split', COUNTS)
def test_a_record_is_an_example_or_named_as_damaged(mini_imagenet_dir, split):
  task, source = task_and_source(
    mini_imagenet_dir / 'folders', split, **{'task.image_size': 224}
  )
  damaged = {}
  for record in source:
    try:
      if split == 'train':
        example = task.train_example(record, np.random.default_rng(1))
      else:
        example = task.eval_example(record)
    except DamagedRecordError as error:
      damaged[record['name']] = str(error)
      continue
    assert example['image'].shape == (224, 224, 3)
    assert example['label'] == record['label']
  assert len(damaged) == (1 if split == 'train' else 0)
  assert all(error.startswith(name) for name, error in damaged.items())


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_each_epoch_shows_each_image_once(mini_imagenet_dir, processes):
  task, source = task_and_source(mini_imagenet_dir / 'flat', 'train')
  one_epoch = COUNTS['train'] // 8
  shown = []
  for index in range(processes):
    batches = pipeline.train_batches(
      task,
      Indexed(source),
      batch_size=8,
      seed=0,
      max_damaged=1.0,
      process_index=index,
      process_count=processes,
    )
    shown += itertools.islice(batches, 2 * one_epoch)
  names = collections.Counter(Indexed.read)
  Indexed.read.clear()
  # Grain reads ahead, so some of the third epoch's are read as well.
  assert len(names) == COUNTS['train']
  assert sum(len(b['mask']) for b in shown) == 2 * COUNTS['train']
  assert sum(b['mask'].sum() for b in shown) == 2 * (COUNTS['train'] - 1)
  labels = np.concatenate([b['label'][b['mask']] for b in shown])
  counts = np.bincount(labels, minlength=12)
  assert sorted(counts) == [2] + 11 * [4]  # Of one class, one is damaged.


class Indexed:
  """Records, and which of them were read."""

  read: list[str] = []

  def __init__(self, source):
    self.source = source

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    self.read.append(self.source[index]['name'])
    return self.source[index]


@pytest.fixture(scope='module')
def mesh():
  import jax

  return sharding.make_mesh(1, jax.devices()[:1])


def run(config, mesh, workdir):
  return train.train(experiment.create(config, mesh), str(workdir))


def losses(workdir):
  records = telemetry.read_metrics(str(workdir))
  return [(r['step'], r['split'], r['loss']) for r in records]


@pytest.mark.slow
def test_a_run_skips_what_is_damaged_and_resumes_to_the_same_losses(
  mini_imagenet_dir, mesh, tmp_path, caplog
):
  """Mixup, CutMix and smoothing are on; two worker processes resume."""
  steps = {
    'train.epochs': 4.0,
    'train.batch_size': 8,
    'train.log_every': 1,
    'optimizer.schedule': 'constant',  # The same for a run half as long.
  }
  config = tiny(mini_imagenet_dir / 'folders', **steps)
  metrics = run(config, mesh, tmp_path / 'whole')
  assert metrics['validation']['count'] == COUNTS['validation']
  assert len([m for m in caplog.messages if 'record' in m]) == 1
  half = {**steps, 'train.epochs': 2.0}
  run(tiny(mini_imagenet_dir / 'folders', **half), mesh, tmp_path / 'halves')
  resumed = tiny(
    mini_imagenet_dir / 'folders', **steps, **{'data.num_workers': 2}
  )
  run(resumed, mesh, tmp_path / 'halves')
  whole = [x for x in losses(tmp_path / 'whole') if x[1] == 'train']
  halves = [x for x in losses(tmp_path / 'halves') if x[1] == 'train']
  assert len(whole) == 12
  assert halves == whole
  stored = json.loads((tmp_path / 'halves' / 'config.json').read_text())
  assert stored['model']['num_classes'] == 12


def test_numbers_that_differ_are_found_before_anything_is_written(
  mini_imagenet_dir, mesh, tmp_path
):
  config = tiny(mini_imagenet_dir / 'flat', **{'task.num_train': 25})
  with pytest.raises(ValueError, match=r'has 24 images, but task.num_train=25'):
    run(config, mesh, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
