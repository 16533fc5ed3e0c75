r"""ImageNet as in the paper (section 4.1): Tables 1, 2, 5, 6, 7, Figs. 5, 6.

  python -m experiments.run --config=configs/imagenet.py:VARIANT \
      --workdir=runs/VARIANT --config.data.dir=/data/imagenet

Each variant, the paper's top-1 in %, and what it costs: parameters, GFLOPs of a
forward pass, FLOPs of the whole training (three times as many for each image)
and device-hours at 400 TFLOP/s, as `python -m scripts.costs` prints them. They
are the paper's FLOPs; in factored form fewer are computed. The figures' points
are in plots only. Table 1's literature rows (ResNet-50 77.6, ViT-B/16 77.9) see
no Fourier features and are not trained here.

variant                   top-1   M par.   GFLOPs    total    hours
(default)                  78.0     44.9    707.2  3.3e+20      227
resnet50                   73.5     26.4     28.5  1.3e+19     9.12
vit_b16                    76.7    137.3     55.0  2.5e+19     17.6
transformer64              57.0     39.1    726.2  3.3e+20      233
learned                    70.9     48.2    380.5  1.8e+20      122
permuted                   78.0     44.9    707.2  3.3e+20      227
resnet50_permuted          39.4     26.4     28.5  1.3e+19     9.12
vit_b16_permuted           61.7    137.3     55.0  2.5e+19     17.6
transformer64_permuted     57.0     39.1    726.2  3.3e+20      233
learned_permuted           70.9     48.2    380.5  1.8e+20      122
table5_4                   39.4     12.7    173.1  8.0e+19     55.4
table5_8                   45.3     23.8    346.1  1.6e+20      111
table5_12                     –     34.9    519.2  2.4e+20      166
table6_1_at_start          76.7     42.1    404.3  1.9e+20      130
table6_1_interleaved       76.7     42.1    404.3  1.9e+20      130
table6_2_at_start          76.7     44.9    447.6  2.1e+20      143
table6_2_interleaved       76.5     44.9    447.6  2.1e+20      143
table6_4_at_start          75.9     44.9    534.1  2.5e+20      171
table6_4_interleaved       76.5     44.9    534.1  2.5e+20      171
table6_8_at_start          73.7     44.9    707.2  3.3e+20      227
table6_8_interleaved       78.0     44.9    707.2  3.3e+20      227
table7_not_shared          72.9    326.2    707.2  3.3e+20      227
fig5_latents_64               –     15.0     36.0  3.5e+19       24
fig5_latents_128              –     15.1     44.7  4.3e+19     29.8
fig5_latents_256              –     15.1     62.6  6.0e+19     41.7
fig5_latents_512              –     15.3    100.0  9.6e+19     66.7
fig5_latents_1024             –     15.5    181.3  1.7e+20      121
fig5_channels_64              –      0.4     20.8  2.0e+19     13.9
fig5_channels_128             –      1.3     41.9  4.0e+19       28
fig5_channels_256             –      4.4     85.5  8.2e+19       57
fig5_channels_512             –     15.3    100.0  9.6e+19     66.7
fig5_channels_1024            –     57.5    146.7  1.4e+20     97.8
fig5_self_attends_1           –      5.8     87.1  8.4e+19       58
fig5_self_attends_2           –      9.0     91.4  8.8e+19     60.9
fig5_self_attends_4           –     15.3    100.0  9.6e+19     66.7
fig5_self_attends_8           –     27.9    117.2  1.1e+20     78.1
fig5_cross_attends_1          –      8.0     50.0  4.8e+19     33.3
fig5_cross_attends_2          –     15.3    100.0  9.6e+19     66.7
fig5_cross_attends_4          –     29.8    200.0  1.9e+20      133
fig5_cross_attends_8          –     58.7    400.0  3.8e+20      267
fig6_init_scale_0.002         –     44.9    707.2  3.3e+20      227
fig6_init_scale_0.02          –     44.9    707.2  3.3e+20      227
fig6_init_scale_0.1           –     44.9    707.2  3.3e+20      227
fig6_init_scale_0.5           –     44.9    707.2  3.3e+20      227
fig6_init_scale_1.0           –     44.9    707.2  3.3e+20      227
fig6_bands_4                  –     43.7    397.2  1.8e+20      127
fig6_bands_8                  –     43.7    412.1  1.9e+20      132
fig6_bands_16                 –     43.9    444.4  2.0e+20      142
fig6_bands_32                 –     44.2    518.8  2.4e+20      166
fig6_bands_64                 –     44.9    707.2  3.3e+20      227
fig6_bands_128                –     46.8   1241.7  5.7e+20      398
fig6_max_resolution_56        –     44.9    707.2  3.3e+20      227
fig6_max_resolution_112       –     44.9    707.2  3.3e+20      227
fig6_max_resolution_224       –     44.9    707.2  3.3e+20      227
fig6_max_resolution_448       –     44.9    707.2  3.3e+20      227
fig6_max_resolution_896       –     44.9    707.2  3.3e+20      227
io_recipe                     –     44.9    707.2  3.0e+20      208
"""

from typing import Any

from ml_collections import config_dict, ConfigDict

PERCEIVER = {
  'name': 'perceiver',
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
RESNET_50 = {
  'name': 'resnet',
  'blocks': (3, 4, 6, 3),
  'channels': (256, 512, 1024, 2048),
  'stem_channels': 64,
  'stem_stride': 2,
  'compute_dtype': 'bfloat16',
}
VIT_B16 = {
  'name': 'vit',
  'patch_size': 16,
  'channels': 768,
  'num_self_attends': 12,
  'self_attend_heads': 12,
  'widening_factor': 4,
  'weight_init_scale': 1.0,
  'dropout_rate': 0.0,
  'compute_dtype': 'bfloat16',
  'remat': 'none',
}
# The paper does not give its width and depth: those of a latent Transformer.
TRANSFORMER = {
  'name': 'transformer',
  'channels': 1024,
  'num_self_attends': 6,
  'self_attend_heads': 8,
  'widening_factor': 1,
  'weight_init_scale': 1.0,
  'dropout_rate': 0.0,
  'compute_dtype': 'bfloat16',
  'remat': 'none',
}
PIXELS_64 = {'task.image_size': 64, 'task.max_resolution': 64}
# Figure 5's small model. Where the figures' axes are read off no text, the
# sweeps' values are ours.
SMALL = {
  'model.latent_channels': 512,
  'model.num_latent_transformers': 2,
  'model.num_self_attends': 4,
  'model.num_cross_attends': 2,
  'model.share_cross_attends': False,
  'model.share_latent_transformers': False,
  'train.batch_size': 64,
  'train.steps': 5_000_000,
}
BASELINES: dict[str, dict[str, Any]] = {
  'resnet50': {'model': RESNET_50},
  'vit_b16': {'model': VIT_B16},
  'transformer64': {'model': TRANSFORMER, **PIXELS_64},
  'learned': {'task.positions': 'learned', 'model.num_cross_attends': 1},
}
# What a variant changes; 'model' stands for the whole section.
VARIANTS: dict[str, dict[str, Any]] = {
  '': {},
  # Tables 1 and 2: the baselines, with Fourier features as the Perceiver has
  # them; learned positions; and all of them on permuted pixels.
  **BASELINES,
  'permuted': {'task.permuted': True},
  **{
    f'{name}_permuted': {**overrides, 'task.permuted': True}
    for name, overrides in BASELINES.items()
  },
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
  # Figure 5.
  **{
    f'fig5_latents_{n}': {**SMALL, 'model.num_latents': n}
    for n in (64, 128, 256, 512, 1024)
  },
  **{
    f'fig5_channels_{n}': {**SMALL, 'model.latent_channels': n}
    for n in (64, 128, 256, 512, 1024)
  },
  **{
    f'fig5_self_attends_{n}': {**SMALL, 'model.num_self_attends': n}
    for n in (1, 2, 4, 8)
  },
  # Each cross-attend is followed by a latent Transformer.
  **{
    f'fig5_cross_attends_{n}': {
      **SMALL,
      'model.num_cross_attends': n,
      'model.num_latent_transformers': n,
    }
    for n in (1, 2, 4, 8)
  },
  # Figure 6.
  **{
    f'fig6_init_scale_{scale}': {
      'model.latent_init_scale': scale,
      'train.batch_size': 256,
    }
    for scale in (0.002, 0.02, 0.1, 0.5, 1.0)
  },
  **{
    f'fig6_bands_{n}': {'task.num_bands': n, 'train.batch_size': 256}
    for n in (4, 8, 16, 32, 64, 128)
  },
  **{
    f'fig6_max_resolution_{n}': {
      'task.max_resolution': n,
      'train.batch_size': 256,
    }
    for n in (56, 112, 224, 448, 896)
  },
  # The published training settings of the authors' Perceiver IO.
  'io_recipe': {
    'task.label_smoothing': 0.1,
    'task.mixup_alpha': 0.2,
    'task.cutmix': True,
    'optimizer.learning_rate': 5e-4 * 1024 / 256,
    'optimizer.schedule': 'cosine',
    'optimizer.decay_at': (0.5,),  # Constant before.
    'train.epochs': 110.0,
  },
  # All of it on scripts/generate_imagenet.py's small stand-in, in a minute.
  'tiny': {
    'task.image_size': 32,
    'task.num_bands': 8,
    'task.max_resolution': 32,
    'task.num_classes': 12,
    'task.num_train': 240,
    'task.num_eval': 60,
    'task.mixup_alpha': 0.2,
    'task.cutmix': True,
    'task.label_smoothing': 0.1,
    'data.num_workers': 1,
    'data.max_damaged': 0.05,
    'model.num_latents': 16,
    'model.latent_channels': 32,
    'model.num_latent_transformers': 2,
    'model.num_self_attends': 1,
    'model.num_cross_attends': 2,
    'model.self_attend_heads': 4,
    'model.compute_dtype': 'float32',
    'train.batch_size': 16,
    'train.epochs': 4.0,
    'train.log_every': 5,
    'train.eval_every': 30,
    'train.checkpoint_every': 30,
    'eval.batch_size': 16,
  },
}


def get_config(variant: str = '') -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'No variant {variant!r}; there are {sorted(VARIANTS)}.')
  overrides = dict(VARIANTS[variant])
  config = ConfigDict()
  config.seed = 0
  # RandAugment's values are of the authors' published settings for Perceiver
  # IO; the paper only names it.
  config.task = ConfigDict(
    {
      'name': 'imagenet',
      'image_size': 224,
      'positions': 'fourier',
      'num_bands': 64,
      'max_resolution': 224,
      'permuted': False,
      'num_classes': 1000,
      'num_train': 1_281_167,
      'num_eval': 50_000,
      'rand_augment_layers': 4,
      'rand_augment_magnitude': 5.0,
      'label_smoothing': 0.0,
      'mixup_alpha': 0.0,
      'cutmix': False,
    }
  )
  config.data = ConfigDict(
    {
      'dir': '',  # Of TFDS's imagenet2012, or with folders train/ and val/.
      'num_workers': 8,
      'max_damaged': 0.001,  # Fraction of the images.
    }
  )
  config.model = ConfigDict(overrides.pop('model', PERCEIVER))
  config.model.num_classes = config.task.get_ref('num_classes')
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
  config.update_from_flattened_dict(overrides)
  return config.lock()
