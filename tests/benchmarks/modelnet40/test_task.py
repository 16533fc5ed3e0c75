"""ModelNet40 from archive to model input, on solids in its own layout."""

import jax
import numpy as np
import pytest

from configs import imagenet
from configs import modelnet40 as configs
from experiments import (
  benchmarks,
  experiment,
  models,
  saved,
  sharding,
  telemetry,
  train,
)
from experiments.benchmarks.modelnet40 import (
  meshes,
  off,
  points,
  preparation,
  standin,
)
from experiments.benchmarks.modelnet40 import source as modelnet40
from perceiver import position_encoding
from perceiver.modalities import normalize_points
from tests.benchmarks.modelnet40.archives import (
  hdf5_content,
  KINDS,
  mesh_files,
  SIZES,
  TINY,
  TINY_HDF5,
  write_zip,
)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Both forms of the same shapes, prepared."""
  folder = tmp_path_factory.mktemp('modelnet40')
  data_dir = str(folder)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(modelnet40.DATASETS, 'tiny', TINY)
    patch.setitem(modelnet40.DATASETS, 'tiny_hdf5', TINY_HDF5)
    source = write_zip(folder / 'tiny.zip', mesh_files())
    told = preparation.prepare('tiny', source, data_dir)
    assert '12 for train, 6 for test; 0 skipped' in told
    files = {'m/shape_names.txt': '\n'.join(KINDS).encode()}
    for split in SIZES:
      records = list(modelnet40.open_source('tiny', split, data_dir))
      clouds = np.stack([record['points'] for record in records])
      # As PointNet's authors scaled them: into the unit sphere.
      radii = np.linalg.norm(clouds, axis=-1).max(axis=1)
      clouds /= radii[:, None, None]
      labels = [record['label'] for record in records]
      for i in range(2):
        part = slice(i, None, 2)
        content = hdf5_content(clouds[part], labels[part])
        files[f'm/ply_data_{split}{i}.h5'] = content
    source = write_zip(folder / 'tiny_hdf5.zip', files)
    preparation.prepare('tiny_hdf5', source, data_dir)
    yield data_dir


@pytest.mark.parametrize('kind', standin.CATEGORIES)
def test_every_solid_is_a_mesh_that_its_seed_gives(kind):
  draw = lambda seed: standin.mesh(kind, np.random.default_rng(seed))
  assert draw(0) == draw(0) != draw(1)
  # Whole meshes with a surface; flaws are faces without area, loose vertices.
  mesh = off.parse(draw(0))
  assert np.ptp(meshes.sample_surface(*mesh, 64, np.random.default_rng(0))) > 0


def tiny(data_dir, **overrides):
  settings = {
    'data.num_workers': 0,
    'task.dataset': 'tiny',
    'model.num_classes': len(KINDS),
    'model.num_latents': 4,
    'model.latent_channels': 16,
    'model.num_self_attends': 1,
    'data.dir': data_dir,
    'train.batch_size': 4,
    'train.steps': 4,
    'train.eval_every': 2,
    'eval.batch_size': 4,
  }
  config = configs.get_config('solids')
  config.update_from_flattened_dict(settings | overrides)
  return config


def create(config):
  return experiment.create(config, sharding.make_mesh(1, jax.devices()[:1]))


def test_meshes_and_point_sets_of_the_same_shapes_are_the_same(data_dir):
  for split, size in SIZES.items():
    both = []
    for name in ('tiny', 'tiny_hdf5'):
      task = benchmarks.create(**tiny(data_dir, **{'task.dataset': name}).task)
      assert task.num_examples(split) == size
      source = task.source(split, data_dir)
      assert len(source) == size
      # TFDS shuffles: by label, then by the largest extent along an axis.
      examples = [task.eval_example(source[i]) for i in range(size)]
      both.append(
        sorted(
          examples,
          key=lambda e: (int(e['label']), float(np.ptp(e['points'][:, 0]))),
        )
      )
    for mesh, point_set in zip(*both, strict=True):
      assert mesh['label'] == point_set['label']
      # Rounded to float32 twice, after different scales.
      np.testing.assert_allclose(mesh['points'], point_set['points'], atol=1e-6)
    counts = np.bincount([e['label'] for e in both[0]])
    assert counts.tolist() == [size // 3] * 3


def test_examples_are_in_the_unit_cube(data_dir):
  task = benchmarks.create(**tiny(data_dir).task)
  rng = np.random.default_rng(0)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), dict(tree))
  for record in task.source('test', data_dir):
    for example in (task.eval_example(record), task.train_example(record, rng)):
      assert shapes(example) == shapes(task.example_spec())
      # Means of 2,048 float32 values up to 1.
      np.testing.assert_allclose(example['points'].mean(axis=0), 0, atol=1e-5)
      assert np.abs(example['points']).max() == 1


def cloud(seed=0):
  return normalize_points(
    np.random.default_rng(seed).normal(size=(2048, 3)).astype(np.float32)
  )


def test_each_augmentation_does_what_it_says():
  rng = np.random.default_rng(0)
  x = cloud()
  scaled = points.scale(x, 0.01, rng)
  factors = scaled / x
  assert 0.99 - 1e-6 <= factors.min() < 0.9905
  assert 1.0095 < factors.max() <= 1.01 + 1e-6
  moved = points.translate(x, 0.02, rng) - x
  assert -0.02 - 1e-6 <= moved.min() < -0.019
  assert 0.019 < moved.max() <= 0.02 + 1e-6
  # Each coordinate on its own.
  for change in (factors, moved):
    assert np.abs(np.corrcoef(change.T) - np.eye(3)).max() < 0.1
  for axis in range(3):
    turned = points.rotate(x, 180.0, axis, rng)
    np.testing.assert_allclose(turned[:, axis], x[:, axis], atol=1e-6)
    np.testing.assert_allclose(
      np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5
    )
    assert np.abs(turned - x).max() > 0.01
  assert {y.dtype for y in (scaled, moved, turned)} == {x.dtype}


def test_the_default_augments_by_scaling_alone(data_dir):
  paper = tiny(data_dir, **{'task.max_rotation': 0.0}).task
  assert {k: paper[k] for k in paper if k.startswith('max_')} == {
    k: configs.get_config().task[k]
    for k in ('max_scaling', 'max_translation', 'max_rotation')
  } | {'max_resolution': paper.max_resolution}
  task = benchmarks.create(**paper)
  record = task.source('train', data_dir)[0]
  plain = task.eval_example(record)['points']
  augmented = task.train_example(record, np.random.default_rng(0))['points']
  # 1 % of each coordinate, and of the mean and the scale that follow.
  assert 1e-3 < np.abs(augmented - plain).max() < 0.03


def test_a_held_out_part_is_never_trained_on(data_dir):
  with_test = tiny(data_dir, **{'task.validation_fraction': 0.25})
  task = benchmarks.create(**with_test.task)
  names = {
    split: {r['name'] for r in task.source(split, data_dir)}
    for split in ('train', 'validation', 'test')
  }
  whole = modelnet40.open_source('tiny', 'train', data_dir)
  sizes = {split: len(x) for split, x in names.items()}
  assert sizes == {'train': 9, 'validation': 3, 'test': 6}
  assert names['train'] | names['validation'] == {r['name'] for r in whole}
  assert not names['train'] & names['validation']
  for split in names:
    assert task.num_examples(split) == len(names[split])


@pytest.mark.slow
def test_runs_report_both_splits_and_pick_by_the_first(data_dir, tmp_path):
  run = create(tiny(data_dir, **{'task.validation_fraction': 0.25}))
  metrics = train.train(run, str(tmp_path))
  counts = {split: x['count'] for split, x in metrics.items()}
  assert counts == {'validation': 3, 'test': 6}
  records = telemetry.read_metrics(str(tmp_path))
  for split in ('validation', 'test'):
    assert [r['step'] for r in records if r['split'] == split] == [2, 4]
  again = saved.evaluate_checkpoint(run, str(tmp_path))
  assert again == metrics


@pytest.mark.parametrize('grid', [(32, 64), (44, 44)])
def test_points_stand_on_the_grid_with_their_positions(data_dir, grid):
  task = benchmarks.create(**tiny(data_dir, **{'task.grid': grid}).task)
  record = task.source('train', data_dir)[0]
  height, width = grid
  seen = task.eval_example(record)
  assert seen['points'].shape == (height * width, 3)
  first = record['points'][: height * width]
  np.testing.assert_allclose(seen['points'], normalize_points(first), atol=1e-6)
  # Another arrangement, and another choice, each time.
  one, other = (
    task.train_example(record, np.random.default_rng(seed))['points']
    for seed in (0, 1)
  )
  assert (np.abs(one - other).max(axis=1) > 0.05).mean() > 0.9
  batch = jax.tree.map(lambda x: x[None], seen)
  segment = models.byte_array(task, batch).segments[0]
  assert segment.content.shape == (1, height, width, 0)
  assert segment.positions.shape == (1, height, width, 3 * (2 * 8 + 1))
  x = segment.positions.reshape(1, height * width, 3, -1)[..., -1]
  np.testing.assert_array_equal(x[0], seen['points'])


def test_the_top_band_is_ten_times_that_of_imagenet():
  tops = {}
  for name, module in (('modelnet40', configs), ('imagenet', imagenet)):
    task = module.get_config().task
    bands = position_encoding.fourier_frequencies(
      task.num_bands, task.max_resolution
    )
    assert len(bands) == 64
    tops[name] = bands[-1]
  assert tops == {'modelnet40': 1120, 'imagenet': 112}


def test_the_full_model_takes_387_channels_of_2048_points():
  inputs = models.input_shapes(configs.get_config())
  assert (inputs.num_elements, inputs.num_channels) == (2048, 387)
