r"""AudioSet as in the paper (section 4.2): Table 3.

  python -m scripts.prepare_audioset --clips=/data/clips --csv=/data/csv \
      --data_dir=/data
  python -m experiments.run --config=configs/audioset.py:VARIANT \
      --config.data.dir=/data --config.task.num_train=N \
      --config.task.num_eval=N --workdir=runs/VARIANT

with as many clips N as there still are: preparing tells.

Each variant, the paper's mAP in %, and what it costs: parameters, GFLOPs of a
forward pass of one window, FLOPs of the whole training and device-hours at 400
TFLOP/s, as `python -m scripts.costs --config=audioset` prints them.

variant                     mAP   M par.   GFLOPs    total    hours
(default)                  43.5    111.7    231.9  1.2e+20     82.1
raw                        38.3    107.4    126.5  6.5e+19     44.8
mel                        38.4    107.4    133.4  6.8e+19     47.3
video                      25.8    111.6    227.2  1.2e+20     80.5
av_mel                     43.2    111.7    266.4  1.4e+20     94.3
av_mel_tuned               44.2    111.7    266.4  1.4e+20     94.3
av_raw_no_video_dropout    39.7    111.7    231.9  1.2e+20     82.1
av_mel_no_video_dropout    39.9    111.7    266.4  1.4e+20     94.3
attention_maps                –    109.0    561.5  2.9e+20      199

`attention_maps` is the model of the appendix's figures, not of the table.

`events_audio`, `events_video` and `events_av` are small models on a stand-in
that needs no download, through the same code:

  python -m scripts.generate_audioset --output=data/events
  python -m scripts.prepare_audioset --clips=data/events/clips \
      --csv=data/events/csv --data_dir=data/events
  python -m experiments.run --config=configs/audioset.py:events_av \
      --workdir=runs/events_av

Expected: mAP 60 % from the audio, 62 % from the video and 99 % from both, each
in at most two minutes on two CPU cores.
"""

from typing import Any

from ml_collections import config_dict, ConfigDict

# One input alone is never dropped.
RAW = {'task.inputs': ('raw',), 'task.video_dropout': 0.0}
MEL = {'task.inputs': ('mel',), 'task.video_dropout': 0.0}
VIDEO = {'task.inputs': ('video',), 'task.video_dropout': 0.0}
AV_MEL = {'task.inputs': ('video', 'mel')}
NO_VIDEO_DROPOUT = {'task.video_dropout': 0.0}
EVENTS = {
  'task.num_frames': 8,
  'task.image_size': 32,
  'task.patch_shape': (4, 4, 4),
  'task.num_mel_bins': 32,
  'task.mel_hop': 1920,
  'task.num_bands': 8,
  'task.num_classes': 12,
  'task.num_train': 400,
  'task.num_eval': 120,
  'task.num_eval_windows': 10,
  'task.video_dropout': 0.1,
  'task.spec_augment_masks': 1,
  'task.spec_augment_bins': 4,
  'task.spec_augment_frames': 2,
  'task.max_hue': 0.05,
  'data.dir': 'data/events',
  'data.num_workers': 0,
  'model.num_latents': 16,
  'model.latent_channels': 64,
  'model.num_self_attends': 2,
  'model.self_attend_heads': 4,
  'model.compute_dtype': 'float32',
  'optimizer.learning_rate': 1e-2,
  'optimizer.schedule': 'cosine',
  'optimizer.decay_at': (),
  'optimizer.warmup': 0.05,
  'train.batch_size': 32,
  'train.steps': 600,
  'train.log_every': 20,
  'train.eval_every': 200,
  'train.checkpoint_every': 200,
  'eval.batch_size': 24,
}
# What a variant changes. The default is the fusion of video and raw audio.
VARIANTS: dict[str, dict[str, Any]] = {
  '': {},
  'raw': RAW,
  'mel': MEL,
  'video': VIDEO,
  'av_mel': AV_MEL,
  'av_mel_tuned': {
    **AV_MEL,
    'task.spec_augment_masks': 0,
    'task.spectrogram_dropout': 0.1,
  },
  'av_raw_no_video_dropout': NO_VIDEO_DROPOUT,
  'av_mel_no_video_dropout': {**AV_MEL, **NO_VIDEO_DROPOUT},
  # The appendix's model for attention maps: every sample is an element.
  'attention_maps': {
    'task.patch_shape': (2, 4, 4),
    'task.samples_per_element': 1,
  },
  'events_audio': {**EVENTS, **MEL},
  'events_video': {**EVENTS, **VIDEO},
  'events_av': {**EVENTS, **AV_MEL},
}


def get_config(variant: str = '') -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'No variant {variant!r}; there are {sorted(VARIANTS)}.')
  config = ConfigDict()
  config.seed = 0
  # The paper names SpecAugment and the augmentations of colour, not their
  # strength. SpecAugment's is its authors' for 80 bins (LibriSpeech double),
  # with at most a fifth of the time in a mask.
  config.task = ConfigDict(
    {
      'name': 'audioset',
      'inputs': ('video', 'raw'),
      'num_frames': 32,
      'image_size': 224,
      'patch_shape': (2, 8, 8),
      'samples_per_element': 128,
      'num_mel_bins': 80,
      'mel_hop': 1024,
      'num_bands': 64,
      'num_classes': 527,
      'num_train': 1_700_000,
      'num_eval': 20_371,
      'num_eval_windows': 16,
      'video_dropout': 0.3,
      'spectrogram_dropout': 0.0,
      'spec_augment_masks': 2,
      'spec_augment_bins': 27,
      'spec_augment_frames': 12,
      'color_probability': 0.8,
      'max_brightness': 32 / 255,
      'max_contrast': 0.4,
      'max_saturation': 0.4,
      'max_hue': 0.2,
    }
  )
  config.data = ConfigDict(
    {
      'dir': '',
      'num_workers': 8,
      'max_damaged': 0.001,  # Fraction of the clips.
    }
  )
  config.model = ConfigDict(
    {
      'name': 'perceiver',
      'num_classes': config.task.get_ref('num_classes'),
      'num_latents': 512,
      'latent_channels': 1024,
      'num_latent_transformers': 2,
      'num_self_attends': 8,
      'num_cross_attends': 2,
      'cross_attend_placement': 'interleaved',
      'cross_attend_heads': 1,
      'cross_attend_channels': config_dict.placeholder(int),  # min(C, D)
      'attention': 'auto',
      'attention_tile': config_dict.placeholder(int),
      'attention_kernel': False,
      'self_attend_heads': 8,
      'share_cross_attends': False,
      'share_latent_transformers': False,
      'widening_factor': 1,
      'latent_init_scale': 0.02,
      'weight_init_scale': 1.0,
      'dropout_rate': 0.0,
      'compute_dtype': 'bfloat16',
      'remat': 'none',
    }
  )
  # The paper does not name them: as on ImageNet, with its decays at the same
  # fractions of the epochs.
  config.optimizer = ConfigDict(
    {
      'name': 'lamb',
      'learning_rate': 4e-3,
      'schedule': 'step',
      'warmup': 0.0,
      'decay_at': (84 / 120, 102 / 120, 114 / 120),
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
      'batch_size': 512,
      'epochs': 100.0,
      'steps': config_dict.placeholder(int),  # Instead of epochs, if given.
      'accumulate': 1,
      'log_every': 50,
      'eval_every': 10_000,
      'checkpoint_every': 1000,
      'keep_checkpoints': 2,
      'model_parallel': 1,
    }
  )
  # A clip's windows are 77 MB, and each worker holds two batches.
  config.eval = ConfigDict({'batch_size': 16, 'checkpoint': 'latest'})
  config.update_from_flattened_dict(VARIANTS[variant])
  return config.lock()
