"""The sections and keys that all configs share.

The values are those of the paper's ImageNet experiment (section 4.1) and, where
the paper is silent, of its authors' published settings for Perceiver IO. The
config of a benchmark adds its own keys and its changes, as
{'section.key': value}. Configs are plain data: they import nothing of ours.
"""

from collections.abc import Iterable, Mapping
import copy
import functools
from typing import Any

from ml_collections import config_dict, ConfigDict

SECTIONS = {
  'data': {
    'num_workers': 8,  # Processes; 0: threads of this process.
    # Fraction of a split's records that may be damaged, over all processes and
    # launches.
    'max_damaged': 0.001,
  },
  'optimizer': {
    'name': 'lamb',
    'learning_rate': 4e-3,
    'schedule': 'step',
    'warmup': 0.0,  # Fraction of the run.
    'decay_at': (84 / 120, 102 / 120, 114 / 120),  # Epochs 84, 102 and 114.
    'decay_factor': 0.1,
    'b1': 0.9,
    'b2': 0.999,
    'eps': 1e-6,
    'weight_decay': 0.1,
    'clip_norm': 10.0,
  },
  'train': {
    'batch_size': 1024,  # Over all devices.
    'epochs': config_dict.placeholder(float),
    'steps': config_dict.placeholder(int),  # Instead of epochs, if given.
    'accumulate': 1,  # Micro-batches in a step.
    'log_every': 50,  # Steps, as are the next two.
    'eval_every': 5000,
    'checkpoint_every': 1000,
    'keep_checkpoints': 2,  # The latest ones; the best one is kept too.
    'init_from': config_dict.placeholder(str),  # See docs/pretrained.md.
    'model_parallel': 1,  # Devices that share one copy of the weights.
    'max_skipped_steps': 3,  # In a row: a loss or gradient is not finite.
    # Seconds without progress after which the process ends: in a step, a batch
    # of an evaluation, a save or the data; while it compiles; while it starts
    # and restores. 0: never.
    'watchdog_seconds': 1800.0,
    'watchdog_compile_seconds': 3600.0,
    'watchdog_restore_seconds': 3600.0,
    # Steps to trace, 'START:COUNT'. Folder that keeps compiled programs for the
    # next start, relative to the workdir; None: they are not kept.
    'profile_steps': config_dict.placeholder(str),
    'compilation_cache': 'compilation_cache',
  },
  'eval': {'batch_size': 1024, 'checkpoint': 'latest'},
}
# Keys that ViT, Transformer and Perceiver share.
ATTENTION = {
  'self_attend_heads': 8,
  'widening_factor': 1,
  'weight_init_scale': 1.0,
  'dropout_rate': 0.0,
  'compute_dtype': 'bfloat16',
  'remat': 'none',  # Others save memory, see `Perceiver.remat`.
}
MODELS = {
  'perceiver': {
    'num_latents': 512,
    'latent_channels': 1024,
    'num_latent_transformers': 8,
    'num_self_attends': 6,
    'num_cross_attends': 8,
    'cross_attend_placement': 'interleaved',
    'cross_attend_heads': 1,
    'cross_attend_channels': config_dict.placeholder(int),  # min(C, D)
    'attention': 'auto',  # Or 'plain', 'no_kv', 'factored': same result.
    'attention_tile': config_dict.placeholder(int),
    'attention_kernel': True,
    'self_attention': 'auto',  # Or 'plain', 'mosaic', 'cudnn': same result.
    'unroll': config_dict.placeholder(bool),  # By the hardware.
    'head': 'mean',  # Or 'query', as in Perceiver IO.
    'query_residual': True,  # Of that query; False: its result replaces it.
    'share_cross_attends': True,
    'share_latent_transformers': True,
    'latent_init_scale': 0.02,
    'head_init_scale': config_dict.placeholder(float),  # weight_init_scale
    'cross_attend_widening_factor': config_dict.placeholder(int),
    **ATTENTION,
  },
  'resnet': {
    'blocks': (3, 4, 6, 3),
    'channels': (256, 512, 1024, 2048),
    'stem_channels': 64,
    'stem_stride': 2,
    'compute_dtype': 'bfloat16',
  },
  'vit': {
    **ATTENTION,
    'patch_size': 16,
    'channels': 768,
    'num_self_attends': 12,
    'self_attend_heads': 12,
    'widening_factor': 4,
  },
  # The paper does not give its width and depth: a latent Transformer's.
  'transformer': {**ATTENTION, 'channels': 1024, 'num_self_attends': 6},
}


def _in_section(section: str, **keys: Any) -> dict[str, Any]:
  return {f'{section}.{key}': value for key, value in keys.items()}


# `task(num_bands=4)` is {'task.num_bands': 4}, and so on.
task, data, model, optimizer, train, evaluation = (
  functools.partial(_in_section, section)
  for section in ('task', 'data', 'model', 'optimizer', 'train', 'eval')
)

# A Perceiver that trains in minutes on a CPU, and its training.
SMALL_MODEL = {
  **model(num_latents=16, latent_channels=64, num_latent_transformers=2),
  **model(num_cross_attends=2, num_self_attends=2, self_attend_heads=4),
  **model(compute_dtype='float32'),
}
SMALL = {
  **SMALL_MODEL,
  **data(num_workers=0),
  **optimizer(learning_rate=1e-2, schedule='cosine', warmup=0.05, decay_at=()),
}


def build(
  own: Mapping[str, Any],
  changes: Mapping[str, Any],
  variants: Mapping[str, Mapping[str, Any]],
  variant: str,
) -> ConfigDict:
  """Builds a variant of a benchmark's config, complete and locked.

  Args:
    own: keys of the benchmark alone, by 'section.key' as in all of these.
    changes: other values of shared keys. Those of the model are for the
      Perceiver: a variant that names another model starts from its own.
    variants: the changes of each variant, by its name.
    variant: the name of one of them.

  Raises:
    ValueError: if no variant has that name.
  """
  if variant not in variants:
    raise ValueError(f'No variant {variant!r}; there are {sorted(variants)}.')
  name = variants[variant].get('model.name', 'perceiver')
  if name != 'perceiver':
    changes = {k: x for k, x in changes.items() if not k.startswith('model.')}
  sections = {**SECTIONS, 'model': {'name': name, **MODELS[name]}, 'task': {}}
  # Copies, because a placeholder keeps a value that is assigned to it.
  config = ConfigDict({'seed': 0, **copy.deepcopy(sections)})
  config.update_from_flattened_dict(copy.deepcopy(own))
  if 'num_classes' in config.task:
    config.model.num_classes = config.task.get_ref('num_classes')
  config.lock()  # An unknown key is an error now.
  config.update_from_flattened_dict({**changes, **variants[variant]})
  return config


def sweep(
  name: str,
  keys: Iterable[str],
  values: Iterable[Any],
  also: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
  """Returns a variant `name.format(value)` for each value of all `keys`."""
  return {
    name.format(x): {**(also or {}), **dict.fromkeys(keys, x)} for x in values
  }
