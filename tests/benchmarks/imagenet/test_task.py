"""ImageNet end to end, on real JPEG files in the layouts people have."""

import json

import jax
import numpy as np
import pytest

from configs import imagenet
from experiments import (
  benchmarks,
  experiment,
  saved,
  sharding,
  telemetry,
  train,
)
from experiments.benchmarks.imagenet import randaugment, standin
from experiments.benchmarks.images import decoding
from experiments.errors import DamagedRecordError
from tests.experiments.smoke import on_devices

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


@pytest.mark.parametrize('kind', ['perceiver_io', 'randaugment'])
def test_a_crop_is_augmented_at_its_own_resolution_or_after_the_resize(
  kind, monkeypatch
):
  seen = []

  def record(image, m, sign, rng):
    seen.append(image.size)
    return image

  monkeypatch.setitem(randaugment.LISTS, kind, {'Record': record})
  settings = {'task.rand_augment_operations': kind, 'task.image_size': 20}
  task = benchmarks.create(**tiny('', **settings).task)
  boxes = []
  for seed, image in enumerate(standin.records('validation', 12, seed=0)):
    example = task.train_example(image, np.random.default_rng(seed))
    assert example['image'].shape == (20, 20, 3)
    size = decoding.decode(image['jpeg']).size
    box = decoding.inception_box(*size, np.random.default_rng(seed))
    boxes.append((box[2] - box[0], box[3] - box[1]))
  expected = boxes if kind == 'perceiver_io' else [(20, 20)] * 12
  assert seen[:: task.rand_augment_layers] == expected


def test_the_recipes_are_those_of_the_released_code():
  for variant in imagenet.VARIANTS:
    config = imagenet.get_config(variant)
    settings = [
      config.task[key]
      for key in ('train_crop', 'round_eval_crop', 'mix_with', 'cutmix')
    ]
    if variant in ('io', 'io_recipe'):
      assert settings == ['sides', True, 'another_batch', True]
    else:
      assert settings == ['area', False, 'neighbours', variant == 'tiny']
    assert config.task.rand_augment_operations == 'perceiver_io'
  io, recipe = map(imagenet.get_config, ('io', 'io_recipe'))
  # Standard deviations of the head's weights.
  assert (io.model.head_init_scale / 1024) ** 0.5 == pytest.approx(0.0275, 1e-3)
  assert recipe.model.head_init_scale == 0
  # 110 epochs of steps, each of which takes two batches: 220 passes.
  passes = benchmarks.create(**io.task).num_mixed * io.train.epochs
  assert passes == 220


def test_a_run_from_before_the_recipe_does_not_silently_take_another_one(
  tmp_path, caplog
):
  before = tiny('').to_dict()
  for key in (
    *('rand_augment_operations', 'train_crop', 'round_eval_crop', 'mix_with'),
  ):
    del before['task'][key]
  del before['model']['head_init_scale']
  (tmp_path / telemetry.CONFIG).write_text(json.dumps(before))
  old = saved.open_run(str(tmp_path)).task
  assert old.rand_augment_operations == 'randaugment'
  assert (old.train_crop, old.round_eval_crop) == ('area', False)
  assert old.num_mixed == 1
  with caplog.at_level('INFO'):
    saved.check_config(on_devices(tiny('')), str(tmp_path))
  assert [m for m in caplog.messages if 'Changed' in m] == [
    "Changed: task.rand_augment_operations is 'randaugment' in the run,"
    " 'perceiver_io' in this config."
  ]


@pytest.mark.parametrize(
  ('key', 'message'),
  [
    ('rand_augment_operations', "='all' is none of .'perceiver_io', 'randaug"),
    ('train_crop', "='all' is none of .'area', 'sides'"),
    ('mix_with', "='all' is none of .'neighbours', 'another_batch'"),
  ],
)
def test_an_unknown_part_of_the_recipe_is_one_clear_error(key, message):
  with pytest.raises(ValueError, match=f'task.{key}{message}'):
    benchmarks.create(**tiny('', **{f'task.{key}': 'all'}).task)


RECIPE = {
  'task.train_crop': 'sides',
  'task.round_eval_crop': True,
  'task.mix_with': 'another_batch',
  'model.head_init_scale': 0.0,
}


@pytest.mark.slow
@pytest.mark.parametrize('recipe', [{}, RECIPE])
def test_a_run_skips_what_is_damaged_and_resumes_to_the_same_losses(
  recipe, mini_imagenet_dir, tmp_path, caplog
):
  """Mixup, CutMix and smoothing are on; two worker processes resume."""
  steps = {
    'train.epochs': 4.0,
    'train.batch_size': 8,
    'train.log_every': 1,
    'optimizer.schedule': 'constant',  # The same for a run half as long.
    **recipe,
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


def outcome(workdir):
  """Returns all that a run has measured, without times, and its damage."""
  metrics = [
    {name: x for name, x in record.items() if name != 'time'}
    for record in telemetry.read_metrics(str(workdir))
  ]
  return metrics, telemetry.read_skipped(str(workdir))


@pytest.mark.slow
def test_parquet_and_tars_train_as_folders_do(mini_imagenet_dir, tmp_path):
  """A run that reads them, also when it resumes, has the same numbers."""
  steps = {
    'train.batch_size': 8,
    'train.log_every': 1,
    'optimizer.schedule': 'constant',
  }
  mesh = sharding.make_mesh(1, jax.devices()[:1])
  outcomes = {}
  for form in ('folders', 'parquet', 'tars'):
    for epochs in (2.0, 4.0):
      overrides = {**steps, 'train.epochs': epochs}
      config = tiny(mini_imagenet_dir / form, **overrides)
      train.train(experiment.create(config, mesh), str(tmp_path / form))
    outcomes[form] = outcome(tmp_path / form)
  metrics, skipped = outcomes['folders']
  assert len(metrics) > 12
  assert len(skipped) == 1
  # Only folders name the class's folder, too.
  skipped = {key: x.partition('/')[2] for key, x in skipped.items()}
  assert outcomes['parquet'] == outcomes['tars'] == (metrics, skipped)
