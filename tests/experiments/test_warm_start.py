"""Training from exported weights: what fits is loaded, the rest is an error."""

import jax
import numpy as np
import pytest

from configs import imagenet
from experiments import train, warm_start
from perceiver import exports
from scripts import export
from tests import quick
from tests.experiments.smoke import (
  create,
  final_params,
  fresh,
  on_devices,
  told_to_stop,
)
from tests.perceiver import make_released_fixtures as released


@pytest.fixture(scope='module')
def weights(trained, tmp_path_factory):
  """An exported smoke run, and its parameters."""
  run, workdir, _ = trained
  folder = tmp_path_factory.mktemp('weights') / 'digits'
  export.export(str(workdir), str(folder))
  return str(folder), final_params(run, workdir)


def other_classes(folder, target, count=10):
  """Returns the same weights with `count` other classes."""
  config, tensors = exports.read(folder)
  tensors = {
    name: x[..., :count] if name.startswith(warm_start.HEAD) else x
    for name, x in tensors.items()
  }
  config['classes'] = [f'letter {i}' for i in range(count)]
  config['model'] = {**config['model'], 'num_classes': count}
  exports.write(target, config, tensors)
  return str(target)


def test_a_run_starts_from_them_once(
  trained, weights, tmp_path, caplog, monkeypatch, change
):
  folder, params = weights
  metrics = {'loss': 1.0, 'grad_norm': 1.0}

  def leave(state, batch):
    """Replaces the step by one that changes nothing, to see the start."""
    return state._replace(step=state.step + 1), metrics

  monkeypatch.setattr(train, 'make_train_step', lambda run: leave)
  run = change(trained[0], **{'train.init_from': folder})
  with told_to_stop(2):
    train.train(run, str(tmp_path))
  assert 'Starting from' in caplog.text
  assert 'fresh: none' in caplog.text
  jax.tree.map(
    np.testing.assert_array_equal, final_params(run, tmp_path), params
  )
  # A run that goes on from a checkpoint does not read them again.
  caplog.clear()
  with told_to_stop(1, 'at step 3 of 20'):
    train.train(change(run, **{'train.init_from': 'gone'}), str(tmp_path))
  assert 'Starting from' not in caplog.text


@pytest.mark.parametrize('count', quick.only([10], [10, 3]))
def test_a_classifier_of_other_classes_is_named_and_fresh(
  weights, tmp_path, caplog, count
):
  folder = other_classes(weights[0], tmp_path / 'letters', count)
  run = create(**{'train.init_from': folder, 'task.max_resolution': 4})
  loaded = warm_start.read(run)
  assert 'fresh: perceiver/head/b, perceiver/head/w' in caplog.text
  assert 'trained with image.max_resolution=8, here 4' in caplog.text
  params = warm_start.put(fresh(run).params, loaded)
  same = jax.tree.map(np.array_equal, params, weights[1])
  assert not same['perceiver/head']['w']
  params['perceiver/head'] = weights[1]['perceiver/head']
  assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, weights[1])))


def test_the_authors_file_starts_a_run_of_their_model(tmp_path, caplog):
  path = tmp_path / 'imagenet_fourier_position_encoding.pystate'
  params, state = released.draw('fourier', 0, num_classes=1000)
  path.write_bytes(released.dumps(params, state))
  config = imagenet.get_config('io')
  config.model.update(num_latents=6, latent_channels=16, num_self_attends=2)
  config.model.update(cross_attend_channels=12, widening_factor=2)
  config.model.update(cross_attend_widening_factor=3)
  config.train.init_from = str(path)
  loaded = warm_start.read(on_devices(config))
  np.testing.assert_array_equal(
    loaded['perceiver/head/w'], params[f'{released.DECODER}/output/w']
  )
  assert 'fresh: none' in caplog.text  # ImageNet's classes are in that order.
  assert 'trained with' not in caplog.text
  config.model.query_residual = False
  warm_start.read(on_devices(config))
  assert 'trained with model.query_residual=True, here False' in caplog.text


@pytest.mark.slow
def test_weights_are_split_as_the_parameters_are(weights, parallel, change):
  run = change(parallel, **{'train.init_from': weights[0]})
  before = fresh(run).params
  params = warm_start.put(before, warm_start.read(run))
  jax.tree.map(np.testing.assert_array_equal, params, weights[1])
  shardings = lambda tree: jax.tree.map(lambda x: x.sharding, tree)
  assert shardings(params) == shardings(before)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'model.latent_channels': 32}, r'does not fit .* here \(32, 10\)'),
    ({'model.num_self_attends': 2}, r'missing, here \('),
    ({'model.head': 'query'}, 'missing, here'),
    ({'train.init_from': 'nowhere'}, 'nowhere is not a folder of weights'),
    (
      {'train.init_from': 'no/where'},
      'no/where here, .*HF_HUB_OFFLINE forbids',
    ),
  ],
)
def test_what_does_not_fit_is_an_error_before_anything_is_written(
  weights, tmp_path, settings, message
):
  run = create(**{'train.init_from': weights[0]} | settings)
  workdir = tmp_path / 'run'
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    train.train(run, str(workdir))
  assert not workdir.exists()


def test_classes_are_the_same_if_half_of_their_names_are():
  ours = ['tench', 'goldfish', 'crane bird', 'crane']
  theirs = ['Tench, Tinca tinca', 'goldfish, Carassius', 'crane', 'crane']
  assert warm_start._are_the_same(theirs, ours)
  assert not warm_start._are_the_same(theirs[:3], ours)
  assert not warm_start._are_the_same(['a', 'b', 'c', 'crane'], ours)
