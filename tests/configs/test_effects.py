"""Each key of a model or a task is marked with what it really changes."""

import functools
import importlib

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import audioset, digits, modelnet40
from experiments import (
  benchmarks,
  config_effects,
  models,
)
from perceiver.effects import Effect
from tests import quick
from tests.benchmarks.audioset.clips import clip
from tests.configs.config_effects import (
  cloud_record,
  image_record,
  OTHER_EFFECTS,
)
from tests.configs.test_configs import (
  baseline,
  BASELINES,
  changes_no_function,
  EFFECTS,
)
from tests.conftest import CONFIGS
from tests.experiments.smoke import on_devices, smoke

NUMBERS = {
  'task.num_train': Effect.TRAINING,
  'task.num_eval': Effect.EVALUATION,
}
# These decide which classes there are.
CLASSES = {'task.name', 'task.num_classes', 'model.name', 'model.num_classes'}
MODEL = {
  **{key: (x, also) for key, (_, x, also) in EFFECTS.items()},
  'model.attention_kernel': (False, {}),
  'model.self_attention': ('plain', {}),
}


def randomly(tree):
  """Random arrays for a tree of shapes, equal for equal shapes."""
  rng = np.random.default_rng(0)
  draw = lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype)
  return jax.tree.map(draw, tree)


def record(module):
  """A record from a benchmark's source, or one like it."""
  if module is digits:
    return benchmarks.create(**smoke().task).source('test', None)[0]
  records = {audioset: clip, modelnet40: cloud_record}
  return records.get(module, image_record)()


def batch_of(task, module):
  """A batch of one: the first window of a record, prepared for evaluation."""
  window = task.display.window(task.eval_example(record(module)), 0)
  return {name: np.asarray(x)[None] for name, x in window.items()}


class Outcome:
  """The outputs of a function, which is compiled only if shapes are equal."""

  def __init__(self, function, *inputs):
    self.function, self.inputs = jax.jit(function), inputs
    self.shapes = str((inputs, self.function.eval_shape(*inputs)))

  @functools.cached_property
  def numbers(self):
    return np.asarray(self.function(*map(randomly, self.inputs)))


@functools.cache
def model_input(module, **overrides):
  """The number of classes, and the byte array of a record."""
  config = module.get_config('tiny' if 'tiny' in module.VARIANTS else '')
  config.update_from_flattened_dict(overrides)
  task = benchmarks.create(**config.task)
  batch = batch_of(task, module)
  inputs = hk.transform(lambda: models.byte_array(task, batch).to_array())
  params = jax.eval_shape(inputs.init, jax.random.key(0))
  return task.num_classes, Outcome(lambda p: inputs.apply(p, None), params)


def logits(config):
  """The number of classes, and the logits of a digit."""
  run = on_devices(config)
  params, state = run.state_shapes.params, run.state_shapes.model_state
  batch = batch_of(run.task, digits)

  def apply(params, state):
    averages = jax.tree.map(jnp.abs, state)  # Variances are not negative.
    return run.forward.apply(params, averages, None, batch, False)[0]

  return run.task.num_classes, Outcome(apply, params, state)


def are_equal(one, other, tolerance):
  if one[0] != other[0] or one[1].shapes != other[1].shapes:
    return False
  numbers, others = one[1].numbers, other[1].numbers
  return np.allclose(numbers, others, rtol=tolerance, atol=tolerance)


def check(effect, one, other):
  if effect == Effect.COMPUTATION:
    assert are_equal(one, other, 0.02)  # bfloat16 has 8 bits.
  else:
    assert are_equal(one, other, 0.0) == (effect != Effect.FUNCTION)


@pytest.mark.slow
@pytest.mark.parametrize(('module', 'key'), OTHER_EFFECTS)
def test_keys_of_tasks_are_marked_as_what_they_change(module, key):
  _, value, also = OTHER_EFFECTS[module, key]
  effect = config_effects.effect(key, module.get_config())
  other = model_input(module, **also | {key: value})
  check(effect, model_input(module, **also), other)


@functools.cache
def cached(**overrides):
  return logits(smoke(**overrides))


KEYS = [key for key in MODEL if key.startswith(('task.', 'model.'))]


# The others are slow tests: a wrong mark on them only refuses a run that could
# go on, and gives no wrong result.
@pytest.mark.parametrize(
  'key', quick.only([x for x in KEYS if changes_no_function(x, smoke())], KEYS)
)
def test_keys_of_the_perceiver_are_marked_as_what_they_change(key):
  value, also = MODEL[key]
  effect = config_effects.effect(key, smoke())
  check(effect, cached(**also), logits(smoke(**also | {key: value})))


@functools.cache
def baseline_logits(name):
  return logits(baseline(name))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'key'), [(n, key) for n, ks in BASELINES.items() for key in ks]
)
def test_keys_of_baselines_are_marked_as_what_they_change(name, key):
  other = baseline(name, **{key: BASELINES[name][key][1]})
  effect = config_effects.effect(f'model.{key}', other)
  check(effect, baseline_logits(name), logits(other))


@pytest.mark.parametrize('name', CONFIGS)
def test_every_key_is_among_them(name):
  module = importlib.import_module(f'configs.{name}')
  config = module.get_config()
  compared = {*MODEL, *(key for of, key in OTHER_EFFECTS if of is module)}
  for section, values in config.items():
    if section not in ('task', 'model'):
      assert config_effects.SECTIONS[section] != Effect.FUNCTION
      continue
    for key in (f'{section}.{x}' for x in values):
      effect = config_effects.effect(key, config)
      if key in CLASSES:
        assert effect == Effect.FUNCTION
      elif key in NUMBERS and key not in compared:
        assert effect == NUMBERS[key]
      else:
        assert key in compared
