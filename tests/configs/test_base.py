"""Configs share their values in one place, and each config is complete."""

import dataclasses
import importlib

import pytest

from configs import base, imagenet
from experiments import models
import perceiver
from tests.conftest import CONFIGS


def fields(module):
  """Arguments and their defaults, except the mesh, which no config sets."""
  defaults = {f.name: f.default for f in dataclasses.fields(module)}
  defaults.pop('mesh', None)
  return defaults


def perceivers():
  """Yields every variant whose model is the Perceiver, of all configs."""
  for name in CONFIGS:
    module = importlib.import_module(f'configs.{name}')
    for variant in module.VARIANTS:
      config = module.get_config(variant)
      if config.model.name == 'perceiver':
        yield config


def test_the_models_keys_are_the_arguments_of_the_perceiver():
  configs = list(perceivers())
  assert len(configs) > 70
  for config in configs:
    assert set(config.model) == fields(perceiver.Perceiver).keys()


def test_the_baselines_keys_are_their_arguments():
  for name, keys in base.MODELS.items():
    arguments = fields(models.MODELS[name]).keys()
    assert {'name', 'num_classes', *keys} == arguments


def test_the_shared_values_are_the_defaults_of_the_perceiver():
  """Both are the paper's ImageNet model."""
  config = imagenet.get_config().model
  differs = {
    key
    for key, default in fields(perceiver.Perceiver).items()
    if default is not dataclasses.MISSING and config[key] != default
  }
  assert differs == {'name', 'compute_dtype'}


def test_a_new_key_of_the_model_is_a_change_of_one_file(monkeypatch):
  monkeypatch.setitem(base.MODELS['perceiver'], 'new_key', 7)
  for config in perceivers():
    assert config.model.new_key == 7
    config.model.new_key = 8  # As an override does.


def test_configs_share_no_value_that_is_assigned():
  first = imagenet.get_config()
  first.train.steps = 3
  first.model.attention_tile = 4
  second = imagenet.get_config()
  assert second.train.steps is None
  assert second.model.attention_tile is None


@pytest.mark.parametrize(
  ('key', 'nearest'),
  [('model.num_latnets', 'num_latents'), ('train.step', 'steps')],
)
def test_a_misspelt_change_is_an_error(key, nearest):
  with pytest.raises(KeyError, match=f'Did you mean "{nearest}"'):
    base.build({}, {key: 1}, {'': {}}, '')
