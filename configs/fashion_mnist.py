"""Fashion-MNIST: Table 2 in small, on real images, in minutes on a CPU.

60,000 + 10,000 images of 28x28 pixels; the Perceiver sees 784 input elements.
The variants are Table 2's: each model on images and on permuted images.
Expected: 89 % for the Perceiver, permuted or not, in half an hour; the ResNet
loses when permuted (experiments/RESULTS.md).

  python -m experiments.run --config=configs/fashion_mnist.py --workdir=…
  python -m experiments.run --config=configs/fashion_mnist.py:permuted …
"""

from typing import Any

from ml_collections import config_dict, ConfigDict

PERCEIVER = {
  'name': 'perceiver',
  'num_latents': 32,
  'latent_channels': 96,
  'num_latent_transformers': 2,
  'num_self_attends': 2,
  'num_cross_attends': 2,
  'cross_attend_placement': 'interleaved',
  'cross_attend_heads': 1,
  'cross_attend_channels': config_dict.placeholder(int),  # min(C, D)
  'attention': 'auto',
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
RESNET = {
  'name': 'resnet',
  'blocks': (3, 4, 6, 3),
  'channels': (32, 64, 128, 256),
  'stem_channels': 16,
  'stem_stride': 1,
  'compute_dtype': 'float32',
}
PERMUTED = {'task.permuted': True}
NARROW_RESNET: dict[str, Any] = {
  'model': RESNET,
  'optimizer.name': 'adamw',
  'optimizer.learning_rate': 2e-3,
  'optimizer.weight_decay': 0.01,
  'train.epochs': 2.0,
}
VARIANTS: dict[str, dict[str, Any]] = {
  '': {},
  'permuted': PERMUTED,
  'resnet': NARROW_RESNET,
  'resnet_permuted': {**NARROW_RESNET, **PERMUTED},
}


def get_config(variant: str = '') -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'No variant {variant!r}; there are {sorted(VARIANTS)}.')
  overrides = dict(VARIANTS[variant])
  config = ConfigDict()
  config.seed = 0
  config.task = ConfigDict(
    {
      'name': 'fashion_mnist',
      'positions': 'fourier',
      'num_bands': 16,
      'max_resolution': 28,
      'permuted': False,
      'max_shift': 1,  # Pixels.
      'flip': True,
    }
  )
  config.data = ConfigDict(
    {
      'dir': '/usr/share/datasets/fashion-mnist',  # Of Debian's package.
      'num_workers': 0,
      'max_damaged': 0.0,
    }
  )
  config.model = ConfigDict(
    {**overrides.pop('model', PERCEIVER), 'num_classes': 10}
  )
  config.optimizer = ConfigDict(
    {
      'name': 'lamb',
      'learning_rate': 4e-3,
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
      'batch_size': 128,
      'epochs': 18.0,
      'steps': config_dict.placeholder(int),
      'accumulate': 1,
      'log_every': 50,
      'eval_every': 469,
      'checkpoint_every': 469,
      'keep_checkpoints': 1,
      'model_parallel': 1,
    }
  )
  config.eval = ConfigDict({'batch_size': 500, 'checkpoint': 'latest'})
  config.update_from_flattened_dict(overrides)
  return config.lock()
