r"""ImageNet as in the paper (section 4.1): Tables 1, 2, 5, 6, 7, Figs. 5, 6.

  python -m experiments.run --config=configs/imagenet.py:VARIANT \
      --workdir=runs/VARIANT --config.data.dir=/data/imagenet

Each variant has the paper's top-1 in % and its costs: parameters, GFLOPs of a
forward pass, FLOPs of the whole training (three times as many for each image)
and device-hours at 400 TFLOP/s, as `python -m scripts.costs` prints them. The
FLOPs are counted as in the paper; the factored form computes fewer. The paper
has the figures' points in plots only. Table 1's ResNet-50 and ViT-B/16 of the
literature see no Fourier features and are not trained here.

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
io                            –     48.4    406.5  1.7e+20      119
"""

from ml_collections import ConfigDict

from configs import base
from configs.base import data, evaluation, model, optimizer, sweep, task, train

OWN = {
  **task(name='imagenet', image_size=224, permuted=False),
  **task(positions='fourier', num_bands=64, max_resolution=224),
  **task(num_classes=1000, num_train=1_281_167, num_eval=50_000),
  # The paper only names RandAugment; the values and the operations are those of
  # the authors' released code for Perceiver IO.
  **task(rand_augment_layers=4, rand_augment_magnitude=5.0),
  **task(rand_augment_operations='perceiver_io'),  # Or 'randaugment': its 14.
  **task(train_crop='area', round_eval_crop=False),
  **task(label_smoothing=0.0, mixup_alpha=0.0, cutmix=False),
  **task(mix_with='neighbours'),
  **data(dir=''),  # Has TFDS's imagenet2012, or train/ and val/.
}
CHANGES = train(epochs=120.0)
PIXELS_64 = task(image_size=64, max_resolution=64)
BASELINES = {
  'resnet50': model(name='resnet'),
  'vit_b16': model(name='vit'),
  'transformer64': {**model(name='transformer'), **PIXELS_64},
  'learned': {**task(positions='learned'), **model(num_cross_attends=1)},
}
PERMUTED = task(permuted=True)
STACK = model(num_latent_transformers=0, share_cross_attends=False)
# Figure 5's small model and Figure 6's batch. The values of the sweeps are ours
# where the paper's text does not give them.
FIG5 = {
  **model(latent_channels=512, num_latent_transformers=2, num_cross_attends=2),
  **model(num_self_attends=4, share_cross_attends=False),
  **model(share_latent_transformers=False),
  **train(batch_size=64, steps=5_000_000),
}
ITERATIONS = ['model.num_cross_attends', 'model.num_latent_transformers']
FIG6 = train(batch_size=256)
SIZES, DEPTHS = (64, 128, 256, 512, 1024), (1, 2, 4, 8)
SCALES, BANDS = (0.002, 0.02, 0.1, 0.5, 1.0), (4, 8, 16, 32, 64, 128)
RESOLUTIONS = (56, 112, 224, 448, 896)
# The authors' released training code of Perceiver IO: the learning rate is 5e-4
# for each 256 of the batch, and constant in the first half. A step mixes two
# batches, so 110 epochs of steps are 220 passes over the data. Each variant has
# the initial head that the code has for its kind.
IO_RECIPE = {
  **task(label_smoothing=0.1, mixup_alpha=0.2, cutmix=True),
  **task(mix_with='another_batch', train_crop='sides', round_eval_crop=True),
  **optimizer(learning_rate=2e-3, schedule='cosine', decay_at=(0.5,)),
  **train(epochs=110.0),
}
VARIANTS = {
  '': {},
  # Tables 1 and 2: baselines with the Perceiver's Fourier features, learned
  # positions, and each of them on permuted pixels.
  **BASELINES,
  'permuted': PERMUTED,
  **{f'{name}_permuted': {**x, **PERMUTED} for name, x in BASELINES.items()},
  # Table 5: cross-attends alone, nothing shared.
  **sweep('table5_{}', ['model.num_cross_attends'], (4, 8, 12), STACK),
  # Table 6: the number of cross-attends and their places.
  **{
    f'table6_{n}_{placement}': model(
      num_cross_attends=n, cross_attend_placement=placement
    )
    for n in (1, 2, 4, 8)
    for placement in ('at_start', 'interleaved')
  },
  # Table 7: no weight sharing; its other row is the default.
  'table7_not_shared': model(
    share_cross_attends=False, share_latent_transformers=False
  ),
  **sweep('fig5_latents_{}', ['model.num_latents'], SIZES, FIG5),
  **sweep('fig5_channels_{}', ['model.latent_channels'], SIZES, FIG5),
  **sweep('fig5_self_attends_{}', ['model.num_self_attends'], DEPTHS, FIG5),
  # Each cross-attend is followed by a latent Transformer.
  **sweep('fig5_cross_attends_{}', ITERATIONS, DEPTHS, FIG5),
  **sweep('fig6_init_scale_{}', ['model.latent_init_scale'], SCALES, FIG6),
  **sweep('fig6_bands_{}', ['task.num_bands'], BANDS, FIG6),
  **sweep('fig6_max_resolution_{}', ['task.max_resolution'], RESOLUTIONS, FIG6),
  'io_recipe': {**IO_RECIPE, **model(head_init_scale=0.0)},
  # Perceiver IO's own ImageNet model (arXiv 2107.14795: 79.0 %), with one
  # cross-attend; `perceiver.from_pretrained` loads the authors' weights.
  'io': {
    **IO_RECIPE,
    **model(num_cross_attends=1, head='query'),
    # Standard deviation 1/√D, cut off at two of it: 0.8796 of it remains.
    **model(head_init_scale=0.87962566**2),
  },
  # Trains in a minute on the small stand-in of `scripts.generate_imagenet`.
  'tiny': {
    **base.SMALL_MODEL,
    **task(image_size=32, num_bands=8, max_resolution=32),
    **task(num_classes=12, num_train=240, num_eval=60),
    **task(label_smoothing=0.1, mixup_alpha=0.2, cutmix=True),
    **data(num_workers=1, max_damaged=0.05),
    **model(latent_channels=32, num_self_attends=1),
    **train(batch_size=16, epochs=4.0),
    **train(log_every=5, eval_every=30, checkpoint_every=30),
    **evaluation(batch_size=16),
  },
}
# Names for `scripts.sweep --variants`.
SWEEPS = {
  'table2': (
    *('', 'permuted'),
    *(name for x in BASELINES for name in (x, f'{x}_permuted')),
  ),
  'table7': ('table7_not_shared', ''),
  **{
    name: tuple(x for x in VARIANTS if x.startswith(prefix))
    for name, prefix in (
      ('table5', 'table5_'),
      ('table6', 'table6_'),
      ('figure5', 'fig5_'),
      ('figure6', 'fig6_'),
    )
  },
}


def get_config(variant: str = '') -> ConfigDict:
  return base.build(OWN, CHANGES, VARIANTS, variant)
