"""Every number of a config has a range; errors name a number outside it."""

import functools
import importlib
import math
import re

import pytest

from experiments import saved
from tests.conftest import CONFIGS
from tests.experiments.smoke import on_devices

SMALL = {
  'model.num_latent_transformers': 2,
  'model.num_self_attends': 1,
  'model.num_cross_attends': 1,
}


def numbers(config):
  """Yields keys whose values are numbers or tuples of numbers, with a value.

  If a config has None for a key, its declared type gives the value.
  """
  for key, value in saved.flat(config.to_dict()).items():
    if value is None:
      section, _, name = key.partition('.')
      value = config[section].get_type(name)()
    if isinstance(value, bool | str):
      continue
    if key == 'model.num_classes' and 'num_classes' in config.task:
      continue  # The task checks it.
    if isinstance(value, tuple) and value and isinstance(value[0], str):
      continue
    yield key, value


def wrong(value):
  """Values of the same type that are outside every range."""
  if isinstance(value, tuple):
    parts = value or (0.5,)
    return [(*parts[:-1], x) for x in wrong(parts[-1])]
  if isinstance(value, int):
    return [-1, -(10**9)]
  return [-1e-9, -1e30, math.nan, math.inf]


@functools.cache
def keys():
  """Keys whose values are numbers, each once, with a variant that has it.

  All models of a kind have the same keys, all configs have the same other
  sections, and each config has its own task.
  """
  found = {}
  for name in CONFIGS:
    module = importlib.import_module(f'configs.{name}')
    for variant in module.VARIANTS:
      config = module.get_config(variant)
      owners = {'task': name, 'model': config.model.name}
      for key, value in numbers(config):
        owner = owners.get(key.partition('.')[0])
        found.setdefault((owner, key), (name, variant, key, value))
  return list(found.values())


@pytest.mark.parametrize('name', CONFIGS)
def test_every_number_of_a_config_has_a_range(name):
  module = importlib.import_module(f'configs.{name}')
  own = [rest for of, *rest in keys() if of == name]
  assert own
  for variant, key, value in own:
    for bad in wrong(value):
      config = module.get_config(variant)
      config.update_from_flattened_dict({key: bad})
      # The error is one line, which may name another key first.
      with pytest.raises(ValueError, match=rf'^(.* )?{re.escape(key)}=.*\.$'):
        on_devices(config)


def test_numbers_of_every_section_are_among_them():
  assert len(keys()) > 80
  sections = {key.partition('.')[0] for _, _, key, _ in keys()}
  assert sections == {
    *('seed', 'task', 'data', 'model', 'optimizer', 'train', 'eval')
  }


@pytest.mark.parametrize(
  ('name', 'key', 'bad', 'good'),
  [
    ('digits', 'seed', 2**32, 2**32 - 1),
    ('digits', 'data.max_damaged', 1.5, 1.0),
    ('digits', 'model.dropout_rate', 1.0, 0.99),
    ('digits', 'model.num_latent_transformers', -1, 2),
    ('digits', 'model.head_init_scale', -0.1, 0.0),
    ('digits', 'optimizer.b2', 1.0, 0.0),
    ('digits', 'optimizer.learning_rate', math.inf, 0.0),
    ('digits', 'optimizer.clip_norm', 0.0, 1e-9),
    ('digits', 'train.batch_size', 0, 8),
    ('digits', 'train.epochs', 0.0, 0.1),
    ('digits', 'task.max_rotation', 181.0, 180.0),
    ('fashion_mnist', 'task.max_shift', 29, 28),
    ('imagenet', 'task.rand_augment_magnitude', 10.5, 10.0),
    ('modelnet40', 'task.vertical_axis', 3, 0),
    ('audioset', 'task.max_hue', 0.6, 0.5),
    ('audioset', 'task.patch_shape', (2, 8, 0), (2, 8, 16)),
  ],
)
def test_the_ends_of_ranges(name, key, bad, good):
  module = importlib.import_module(f'configs.{name}')
  config = module.get_config()
  config.update_from_flattened_dict(SMALL)
  config.update_from_flattened_dict({key: bad})
  with pytest.raises(ValueError, match=rf'{key}=.* must be in'):
    on_devices(config)
  config.update_from_flattened_dict({key: good})
  on_devices(config)
