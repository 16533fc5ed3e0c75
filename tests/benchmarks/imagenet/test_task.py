"""ImageNet end to end, on real JPEG files in the layouts people have."""

import json

import jax
import numpy as np
import pytest

from configs import imagenet
from experiments import (
  benchmarks,
  experiment,
  sharding,
  telemetry,
  train,
)
from experiments.errors import DamagedRecordError

COUNTS = {'train': 24, 'validation': 12}


def tiny(data_dir, **overrides):
  settings = {
    'data.dir': str(data_dir),
    'data.num_workers': 0,
    'task.num_train': COUNTS['train'],
    'task.num_eval': COUNTS['validation'],
  }
  config = imagenet.get_config('tiny')
  config.update_from_flattened_dict(settings | overrides)
  return config


@pytest.mark.parametrize('split', COUNTS)
def test_a_record_is_an_example_or_named_as_damaged(mini_imagenet_dir, split):
  data_dir = mini_imagenet_dir / 'folders'
  task = benchmarks.create(**tiny(data_dir, **{'task.image_size': 224}).task)
  damaged = {}
  for record in task.source(split, str(data_dir)):
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


@pytest.mark.slow
def test_a_run_skips_what_is_damaged_and_resumes_to_the_same_losses(
  mini_imagenet_dir, tmp_path, caplog
):
  """Mixup, CutMix and smoothing are on; two worker processes resume."""
  steps = {
    'train.epochs': 4.0,
    'train.batch_size': 8,
    'train.log_every': 1,
    'optimizer.schedule': 'constant',  # The same for a run half as long.
  }
  mesh = sharding.make_mesh(1, jax.devices()[:1])

  def train_on(name, **overrides):
    config = tiny(mini_imagenet_dir / 'folders', **(steps | overrides))
    return train.train(experiment.create(config, mesh), str(tmp_path / name))

  metrics = train_on('whole')
  assert metrics['validation']['count'] == COUNTS['validation']
  assert len([m for m in caplog.messages if 'record' in m]) == 1
  train_on('halves', **{'train.epochs': 2.0})
  train_on('halves', **{'data.num_workers': 2})
  whole, halves = (
    [
      (record['step'], record['loss'])
      for record in telemetry.read_metrics(str(tmp_path / name))
      if record['split'] == 'train'
    ]
    for name in ('whole', 'halves')
  )
  assert len(whole) == 12
  assert halves == whole
  stored = json.loads((tmp_path / 'halves' / 'config.json').read_text())
  assert stored['model']['num_classes'] == 12
