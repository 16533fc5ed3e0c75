"""ImageNet, the paper's model (section 4.1): 78.0 % top-1 (Table 1).

44.9 M parameters, 707.2 GFLOPs for a forward pass of one image.
The variants are the rows of Tables 5, 6 and 7:

  python -m experiments.run --config=configs/imagenet.py:table6_1_at_start …
  python -m scripts.tables --table=6
"""

from ml_collections import config_dict, ConfigDict

VARIANTS = {
  '': {},
  # Table 5: cross-attends alone, nothing shared.
  **{
    f'table5_{n}': {
      'model.num_cross_attends': n,
      'model.num_latent_transformers': 0,
      'model.share_cross_attends': False,
    }
    for n in (4, 8, 12)
  },
  # Table 6: the number of cross-attends and where they stand.
  **{
    f'table6_{n}_{placement}': {
      'model.num_cross_attends': n,
      'model.cross_attend_placement': placement,
    }
    for n in (1, 2, 4, 8)
    for placement in ('at_start', 'interleaved')
  },
  # Table 7: no weight sharing; its other row is the default.
  'table7_not_shared': {
    'model.share_cross_attends': False,
    'model.share_latent_transformers': False,
  },
}


def get_config(variant: str = '') -> ConfigDict:
  config = ConfigDict()
  config.seed = 0
  config.task = ConfigDict(
    {
      'name': 'imagenet',
      'image_size': 224,
      'num_bands': 64,
      'max_resolution': 224,
    }
  )
  config.data = ConfigDict({'dir': '', 'num_workers': 8})
  config.model = ConfigDict(
    {
      'num_classes': 1000,
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
      'attention_kernel': False,
      'self_attend_heads': 8,
      'share_cross_attends': True,
      'share_latent_transformers': True,
      'widening_factor': 1,
      'latent_init_scale': 0.02,
      'weight_init_scale': 1.0,
      'dropout_rate': 0.0,
      'compute_dtype': 'bfloat16',
      'remat': 'none',  # Or, to save memory, see `Perceiver.remat`.
    }
  )
  # The paper names LAMB, the learning rate and its decay; the rest is from the
  # authors' published settings for Perceiver IO, as is the batch size.
  config.optimizer = ConfigDict(
    {
      'name': 'lamb',
      'learning_rate': 4e-3,
      'schedule': 'step',
      'warmup': 0.0,
      'decay_at': (84 / 120, 102 / 120, 114 / 120),  # Epochs 84, 102 and 114.
      'decay_factor': 0.1,
      'b1': 0.9,
      'b2': 0.999,
      'eps': 1e-6,
      'weight_decay': 0.1,
      'clip_norm': 10.0,
    }
  )
  config.train = ConfigDict(
    {
      'batch_size': 1024,
      'epochs': 120.0,
      'steps': config_dict.placeholder(int),  # Instead of epochs, if given.
      'accumulate': 1,
      'log_every': 50,
      'eval_every': 5000,
      'checkpoint_every': 1000,
      'keep_checkpoints': 2,
      'model_parallel': 1,
    }
  )
  config.eval = ConfigDict({'batch_size': 1024, 'checkpoint': 'latest'})
  if variant not in VARIANTS:
    raise ValueError(f'No variant {variant!r}; there are {sorted(VARIANTS)}.')
  config.update_from_flattened_dict(VARIANTS[variant])
  return config.lock()
