"""Every config loads and fits its model; every key has an effect."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
  benchmarks,
  config_effects,
  experiment,
  models,
  optimizers,
  pipeline,
  saved,
  train_step,
)
from perceiver.effects import Effect
from tests import quick
from tests.configs.config_effects import OTHER_EFFECTS
from tests.conftest import CONFIGS
from tests.experiments.smoke import on_devices, smoke

VARIANTS = [
  (name, variant)
  for name in CONFIGS
  for variant in importlib.import_module(f'configs.{name}').VARIANTS
]


def get_config(name, variant):
  return importlib.import_module(f'configs.{name}').get_config(variant)


# Repeated parts only once, which changes no shape.
SHALLOW = {
  'num_cross_attends': 1,
  'num_latent_transformers': 1,
  'num_self_attends': 1,
  'blocks': (1, 1, 1, 1),
}


def shallow(config, *keys):
  """Sets the keys of SHALLOW that the model has, or those of `keys`."""
  keys = keys or SHALLOW
  config.model.update({x: SHALLOW[x] for x in keys if x in config.model})
  return config


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_every_variant_is_locked_and_two_levels_deep(name, variant):
  config = get_config(name, variant)
  assert config.is_locked
  assert all(
    not any(hasattr(x, 'items') for x in section.values())
    for section in config.values()
    if hasattr(section, 'items')
  ), 'sections have no sections of their own'


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_every_variant_fits_its_model(name, variant):
  """Initialising the weights applies the model to the task's input."""
  # Each variant has its own order of iterations and weight sharing.
  config = shallow(get_config(name, variant), 'num_self_attends', 'blocks')
  shapes = on_devices(config).state_shapes
  assert [
    x['b'].shape
    for path, x in shapes.params.items()
    if path.endswith(('/head', '/logits'))
  ] == [(config.model.num_classes,)]


@pytest.mark.parametrize('name', CONFIGS)
def test_variants_are_variants_of_what_exists(name):
  module = importlib.import_module(f'configs.{name}')
  with pytest.raises(ValueError, match='No variant'):
    module.get_config('no_such_variant')
  assert set(module.get_config()) == {
    *('seed', 'task', 'data', 'model', 'optimizer', 'train', 'eval')
  }


def first_batch(config):
  task = benchmarks.create(**config.task)
  batches = pipeline.train_batches(
    task, task.source('train', None), batch_size=16, seed=config.seed
  )
  return next(batches)['image'].tobytes()


def inputs(config):
  task = benchmarks.create(**config.task)
  batch = {'image': jnp.zeros((1, 8, 8, 1))}
  return np.asarray(models.byte_array(task, batch).to_array()).tobytes()


def program(config):
  """The traced program of initialisation and of the training logits."""
  run = on_devices(config)

  def init_and_apply(key, batch):
    params, state = run.forward.init(key, batch, True)
    return params, run.forward.apply(params, state, key, batch, True)[0]

  spec = run.task.batch_spec(2)
  return str(jax.make_jaxpr(init_and_apply)(jax.random.key(0), spec))


def optimized(config):
  """Weights after 40 steps down a fixed slope."""
  optimizer, _ = optimizers.create(40, **config.optimizer)
  params = {'layer': {'w': jnp.ones(3), 'b': jnp.ones(3)}}
  rng = np.random.default_rng(0)
  gradients = [
    jax.tree.map(lambda x: rng.normal(size=x.shape).astype('f'), params)
    for _ in range(40)
  ]

  def step(carry, grads):
    params, state = carry
    updates, state = optimizer.update(grads, state, params)
    return (jax.tree.map(jnp.add, params, updates), state), None

  stacked = jax.tree.map(lambda *x: jnp.stack(x), *gradients)
  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), stacked)
  return np.concatenate(jax.tree.leaves(params)).tobytes()


def steps(config):
  return experiment.create(config).total_steps


def train_program(config):
  run = on_devices(config)
  step = train_step.make_train_step(run)
  batch = run.task.batch_spec(config.train.batch_size)
  return str(step.trace(run.state_shapes, batch).jaxpr)


EPOCHS = {'train.steps': None, 'train.epochs': 2.0}
STEP = {'optimizer.schedule': 'step', 'optimizer.decay_at': (0.5,)}
# Each key's outcome, another value that changes it, and settings it needs for
# that. Keys that say when a run writes are in ELSEWHERE.
EFFECTS = {
  'seed': (first_batch, 1, {}),
  'task.max_shift': (first_batch, 0.0, {}),
  'task.max_rotation': (first_batch, 0.0, {}),
  'task.max_scaling': (first_batch, 0.0, {}),
  'task.image_size': (first_batch, 9, {}),
  'task.num_bands': (inputs, 5, {}),
  'task.max_resolution': (inputs, 4, {}),
  'task.positions': (program, 'learned', {}),
  'task.permuted': (inputs, True, {}),
  'model.num_latents': (program, 9, {}),
  'model.latent_channels': (program, 18, {}),
  'model.num_latent_transformers': (program, 3, {}),
  'model.num_self_attends': (program, 3, {}),
  'model.num_cross_attends': (program, 1, {}),
  'model.cross_attend_placement': (program, 'at_start', {}),
  'model.cross_attend_heads': (program, 2, {'model.cross_attend_channels': 4}),
  'model.cross_attend_channels': (program, 4, {}),
  'model.self_attend_heads': (program, 4, {}),
  'model.head': (program, 'query', {}),
  'model.query_residual': (program, False, {'model.head': 'query'}),
  'model.share_cross_attends': (
    program,
    False,
    {'model.num_cross_attends': 3, 'model.num_latent_transformers': 3},
  ),
  'model.share_latent_transformers': (program, False, {}),
  'model.widening_factor': (program, 2, {}),
  'model.cross_attend_widening_factor': (program, 2, {}),
  'model.latent_init_scale': (program, 0.5, {}),
  'model.weight_init_scale': (program, 0.5, {}),
  'model.head_init_scale': (program, 0.5, {}),
  'model.dropout_rate': (program, 0.5, {}),
  'model.compute_dtype': (program, 'bfloat16', {}),
  'model.attention': (program, 'no_kv', {}),
  'model.attention_tile': (program, 2, {}),
  'model.remat': (program, 'nothing_saveable', {}),
  'model.unroll': (
    program,
    True,
    {'model.num_cross_attends': 3, 'model.num_latent_transformers': 3},
  ),
  'optimizer.name': (optimized, 'adamw', {}),
  'optimizer.learning_rate': (optimized, 0.5, {}),
  'optimizer.schedule': (optimized, 'constant', {}),
  'optimizer.warmup': (optimized, 0.5, {}),
  'optimizer.decay_at': (optimized, (0.2,), STEP),
  'optimizer.decay_factor': (optimized, 0.5, STEP),
  'optimizer.b1': (optimized, 0.5, {}),
  'optimizer.b2': (optimized, 0.5, {}),
  'optimizer.eps': (optimized, 0.5, {}),
  'optimizer.weight_decay': (optimized, 0.5, {}),
  'optimizer.clip_norm': (optimized, 1e-3, {}),
  'train.accumulate': (train_program, 2, {}),
  'train.steps': (steps, 7, {}),
  'train.epochs': (steps, 1.0, EPOCHS),
  'train.batch_size': (steps, 32, EPOCHS),
}
ELSEWHERE = {  # Other tests have a run to test these with.
  'task.name': 'experiments/test_runs.py: the imagenet config',
  'task.num_classes': 'below',
  'task.num_train': 'benchmarks/imagenet/test_source.py',
  'task.num_eval': 'benchmarks/imagenet/test_source.py',
  'data.dir': 'benchmarks/imagenet/test_source.py',
  'data.num_workers': 'experiments/test_pipeline.py',
  'data.max_damaged': 'experiments/test_damaged_records.py',
  'model.name': 'below',
  'model.num_classes': 'below',
  'model.attention_kernel': 'perceiver/test_model.py',
  'model.self_attention': 'perceiver/test_model.py',
  'train.init_from': 'experiments/test_warm_start.py',
  'train.model_parallel': 'experiments/test_training.py',
  'train.max_skipped_steps': 'experiments/test_training.py',
  'train.watchdog_seconds': 'experiments/test_watchdog.py',
  'train.watchdog_compile_seconds': 'experiments/test_watchdog.py',
  'train.watchdog_restore_seconds': 'experiments/test_watchdog.py',
  'train.log_every': 'experiments/test_training.py',
  'train.eval_every': 'experiments/test_training.py',
  'train.checkpoint_every': 'experiments/test_training.py',
  'train.keep_checkpoints': 'experiments/test_training.py',
  'train.profile_steps': 'experiments/test_start.py',
  'train.compilation_cache': 'experiments/test_start.py',
  'eval.batch_size': 'experiments/test_training.py',
  'eval.checkpoint': 'experiments/test_saved.py',
}


def keys(config):
  return saved.flat(config.to_dict()).keys()


TRANSFORMER = {
  'channels': (8, 12),
  'num_self_attends': (1, 2),
  'self_attend_heads': (2, 4),
  'widening_factor': (1, 2),
  'weight_init_scale': (1.0, 0.5),
  'dropout_rate': (0.0, 0.5),
  'compute_dtype': ('float32', 'bfloat16'),
  'remat': ('none', 'nothing_saveable'),
}
# The keys of each baseline's model: a small value, and another one.
BASELINES = {
  'resnet': {
    'blocks': ((1, 1, 1, 1), (1, 1, 1, 2)),
    'channels': ((8, 8, 8, 8), (8, 8, 8, 12)),
    'stem_channels': (4, 6),
    'stem_stride': (1, 2),
    'compute_dtype': ('float32', 'bfloat16'),
  },
  'vit': {'patch_size': (4, 2), **TRANSFORMER},
  'transformer': TRANSFORMER,
}


@pytest.mark.parametrize('name', CONFIGS)
def test_every_key_has_a_test(name):
  module = importlib.import_module(f'configs.{name}')
  tested = {*EFFECTS, *ELSEWHERE}
  tested |= {key for config, key in OTHER_EFFECTS if config is module}
  for variant in module.VARIANTS:
    config = module.get_config(variant)
    baseline = BASELINES.get(config.model.name, {})
    of_baseline = {f'model.{key}' for key in baseline}
    assert keys(config) <= tested | of_baseline


def changes_no_function(key, config):
  """Selects keys to test here; `test_effects` tests the others."""
  return config_effects.effect(key, config) != Effect.FUNCTION


@pytest.mark.parametrize(
  ('module', 'key'),
  [
    (module, key)
    for module, key in OTHER_EFFECTS
    if changes_no_function(key, module.get_config())
  ],
)
def test_every_key_of_other_configs_changes_something(module, key):
  outcome, value, also = OTHER_EFFECTS[module, key]

  def result(overrides):
    variant = 'tiny' if 'tiny' in module.VARIANTS else ''
    config = module.get_config(variant)
    config.update_from_flattened_dict(overrides)
    return outcome(config)

  assert result(also) != result(also | {key: value})


@pytest.mark.parametrize(
  ('name', 'key'),
  [
    (name, key)
    for name, keys in BASELINES.items()
    for key in keys
    if changes_no_function(f'model.{key}', {'model': {'name': name}})
  ],
)
def test_every_key_of_a_baseline_changes_something(name, key):
  other = {key: BASELINES[name][key][1]}
  changed = program(baseline(name, **other))
  assert baseline_program(name) != changed


def baseline(name, **overrides):
  """The digits' smoke variant with a small baseline as its model."""
  section = {k: small for k, (small, _) in BASELINES[name].items()}
  config = smoke()
  with config.unlocked():
    config.model = {'name': name, 'num_classes': 10, **section, **overrides}
  return config


@functools.cache
def baseline_program(name):
  return program(baseline(name))


KEYS = [key for key in EFFECTS if changes_no_function(key, smoke())]


@pytest.mark.parametrize(
  'key', quick.only({*KEYS} - {'train.accumulate'}, KEYS)
)
def test_every_key_changes_something(key):
  outcome, value, also = EFFECTS[key]
  assert cached(outcome, **also) != outcome(smoke(**(also | {key: value})))


@functools.cache
def cached(outcome, **overrides):
  return outcome(smoke(**overrides))


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    ({'task.name': 'cifar'}, "No task 'cifar'; there are"),
    ({'task.positions': 'sine'}, "task.positions='sine' is none of"),
    ({'model.name': 'mlp'}, "model.name='mlp' is none of"),
    ({'model.name': 'vit'}, 'Bad config: .*unexpected keyword argument'),
    ({'model.num_classes': 11}, 'num_classes=11, but the task'),
    ({'model.self_attend_heads': 3}, 'not divisible by self_attend_heads=3'),
    ({'train.batch_size': 60}, r'train.batch_size=60 is not div.* 8 device'),
    ({'train.accumulate': 3}, r'batch_size=64 is not .* x train.accumulate=3'),
    ({'eval.batch_size': 100}, 'eval.batch_size=100 is not divisible by 8'),
    ({'train.model_parallel': 3}, 'model_parallel=3 does not divide the 8'),
    ({'train.steps': 0}, 'train.steps=0 must be'),
    ({'train.steps': None, 'train.epochs': None}, 'and train.epochs are both'),
    ({'train.profile_steps': '3'}, "profile_steps='3' is not START:COUNT"),
    ({'train.profile_steps': '0:2'}, "profile_steps='0:2' is not START:COUNT"),
    ({'train.profile_steps': '20:2'}, "'20:2' goes beyond the last step, 20"),
    ({'eval.checkpoint': 'last'}, "eval.checkpoint='last' is neither"),
    ({'optimizer.name': 'sgd'}, "optimizer.name='sgd' is none of"),
    ({'optimizer.schedule': 'linear'}, "schedule='linear' is none of"),
    ({'optimizer.warmup': 5.0}, 'optimizer.warmup=5.0 and'),
    ({'model.remat': 'some'}, "remat='some' is neither"),
    ({'model.head': 'max'}, "head='max' is none of"),
    ({'model.compute_dtype': 'float17'}, "compute_dtype='float17' is not a"),
  ],
)
def test_a_bad_value_is_one_clear_error(overrides, message):
  with pytest.raises(ValueError, match=message):
    experiment.create(smoke(**overrides))


@pytest.mark.parametrize('section', ['model', 'task', 'optimizer'])
def test_an_unknown_key_in_a_config_file_is_named(section):
  config = smoke()
  with config.unlocked():
    config[section].num_latent = 3
  with pytest.raises(
    ValueError, match=rf"{section}: .*unexpected keyword.*'num_latent'"
  ):
    experiment.create(config)


def test_a_task_without_a_name_is_one_clear_error():
  config = smoke()
  with config.unlocked():
    del config.task.name
  with pytest.raises(ValueError, match=r"Bad config: task: .*'name'"):
    experiment.create(config)


def test_a_fault_of_the_code_is_not_taken_for_a_bad_config(monkeypatch):
  def build(*arguments):
    raise TypeError('in the code')

  monkeypatch.setattr(models, 'transform_model', build)
  with pytest.raises(TypeError, match='in the code'):
    experiment.create(smoke())
