"""Handwritten digits: the whole house on real data, without a download.

scikit-learn's 1,797 digits of 8x8 pixels, 1,437 to train on and 360 to test.
Expected: 98 % of the test digits, in about two minutes on two CPU cores.

  python -m experiments.run --config=configs/digits.py --workdir=runs/digits
"""

from ml_collections import config_dict, ConfigDict

# What a variant changes: `--config=configs/digits.py:smoke`.
VARIANTS = {
  '': {},
  # Two minutes less: does everything run?
  'smoke': {
    'model.num_latents': 8,
    'model.latent_channels': 16,
    'model.num_self_attends': 1,
    'model.self_attend_heads': 2,
    'train.steps': 20,
    'train.log_every': 1,
    'train.eval_every': 10,
    'train.checkpoint_every': 5,
    'optimizer.warmup': 0.0,
  },
}


def get_config(variant: str = '') -> ConfigDict:
  config = ConfigDict()
  config.seed = 0
  config.task = ConfigDict(
    {
      'name': 'digits',
      'positions': 'fourier',
      'num_bands': 4,
      'max_resolution': 8,
      'permuted': False,
      'max_shift': 0.5,  # Pixels.
      'max_rotation': 10.0,  # Degrees.
      'max_scaling': 0.15,
    }
  )
  config.data = ConfigDict(
    {
      'num_workers': 0,  # Processes; 0: threads of this one.
      'max_damaged': 0.0,  # Fraction of the records.
    }
  )
  config.model = ConfigDict(
    {
      'name': 'perceiver',
      'num_classes': 10,
      'num_latents': 16,
      'latent_channels': 64,
      'num_latent_transformers': 2,
      'num_self_attends': 2,
      'num_cross_attends': 2,
      'cross_attend_placement': 'interleaved',
      'cross_attend_heads': 1,
      'cross_attend_channels': config_dict.placeholder(int),  # min(C, D)
      'attention': 'auto',  # Or 'plain', 'no_kv', 'factored': same result.
      'attention_tile': config_dict.placeholder(int),
      'attention_kernel': False,
      'self_attend_heads': 4,
      'share_cross_attends': True,
      'share_latent_transformers': True,
      'widening_factor': 1,
      'latent_init_scale': 0.02,
      'weight_init_scale': 1.0,
      'dropout_rate': 0.0,
      'compute_dtype': 'float32',
      'remat': 'none',
    }
  )
  config.optimizer = ConfigDict(
    {
      'name': 'lamb',
      'learning_rate': 1e-2,
      'schedule': 'cosine',
      'warmup': 0.05,  # Fraction of the run.
      'decay_at': (),
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
      'batch_size': 64,
      'epochs': 90.0,
      'steps': config_dict.placeholder(int),  # Instead of epochs, if given.
      'accumulate': 1,  # Micro-batches in a step.
      'log_every': 10,
      'eval_every': 200,
      'checkpoint_every': 100,
      'keep_checkpoints': 2,  # The latest; the best one is kept besides.
      'model_parallel': 1,  # Devices that share one copy of the weights.
    }
  )
  config.eval = ConfigDict({'batch_size': 128, 'checkpoint': 'latest'})
  if variant not in VARIANTS:
    raise ValueError(f'No variant {variant!r}; there are {sorted(VARIANTS)}.')
  config.update_from_flattened_dict(VARIANTS[variant])
  return config.lock()
