r"""AudioSet as in the paper (section 4.2): Table 3.

  python -m scripts.prepare_audioset --clips=/data/clips --csv=/data/csv \
      --data_dir=/data
  python -m experiments.run --config=configs/audioset.py:VARIANT \
      --config.data.dir=/data --config.task.num_train=N \
      --config.task.num_eval=N --workdir=runs/VARIANT

where N are the clips that there still are, as the first command prints them.

Each variant has the paper's mAP in % and its costs: parameters, GFLOPs of a
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

`attention_maps` is not in the table: it is the model of the appendix's figures.

`events_audio`, `events_video` and `events_av` are small models on generated
data, through the same code; docs/benchmarks.md has their commands. Expected:
mAP 60 % from the audio, 62 % from the video and 99 % from both, each in at most
two minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import base
from configs.base import data, evaluation, model, task, train

OWN = {
  **task(
    name='audioset', num_classes=527, num_train=1_700_000, num_eval=20_371
  ),
  **task(inputs=('video', 'raw'), num_bands=64, num_eval_windows=16),
  **task(num_frames=32, image_size=224, patch_shape=(2, 8, 8)),
  **task(samples_per_element=128, num_mel_bins=80, mel_hop=1024),
  **task(video_dropout=0.3, spectrogram_dropout=0.0, eval_without_video=False),
  # The paper does not give the strength of SpecAugment and of the colours'
  # augmentations. SpecAugment's is its authors' for 80 bins (LibriSpeech
  # double), with at most a fifth of the time in a mask.
  **task(spec_augment_masks=2, spec_augment_bins=27, spec_augment_frames=12),
  **task(color_probability=0.8, max_brightness=32 / 255, max_contrast=0.4),
  **task(max_saturation=0.4, max_hue=0.2),
  **data(dir=''),
}
# The paper names no optimizer. This is ImageNet's, with its decays at the same
# fractions of the epochs. A clip's windows are 77 MB in evaluation, and each
# worker holds two batches.
CHANGES = {
  **model(num_latent_transformers=2, num_cross_attends=2, num_self_attends=8),
  **model(share_cross_attends=False, share_latent_transformers=False),
  **train(batch_size=512, epochs=100.0, eval_every=10_000),
  **evaluation(batch_size=16),
}
# An input that is alone is never dropped.
RAW = task(inputs=('raw',), video_dropout=0.0)
MEL = task(inputs=('mel',), video_dropout=0.0)
VIDEO = task(inputs=('video',), video_dropout=0.0)
AV_MEL = task(inputs=('video', 'mel'))
NO_VIDEO_DROPOUT = task(video_dropout=0.0)
EVENTS = {
  **base.SMALL,
  **task(num_classes=12, num_train=400, num_eval=120, num_eval_windows=10),
  **task(num_frames=8, image_size=32, patch_shape=(4, 4, 4), num_bands=8),
  **task(num_mel_bins=32, mel_hop=1920, video_dropout=0.1, max_hue=0.05),
  **task(spec_augment_masks=1, spec_augment_bins=4, spec_augment_frames=2),
  **data(dir='data/events'),
  **train(batch_size=32, steps=600, log_every=20),
  **train(eval_every=200, checkpoint_every=200),
  **evaluation(batch_size=24),
}
TUNED = {**AV_MEL, **task(spec_augment_masks=0, spectrogram_dropout=0.1)}
# Table 3 in small, with the paper's video dropout or none, which is for clips
# without video. More clips tell more than more windows of each.
EQUAL = {
  **train(steps=800, eval_every=1_000_000),
  **task(video_dropout=0.3, num_eval=1920, num_eval_windows=1),
  **data(dir='data/more_events'),
  **evaluation(batch_size=96),
}
BOTH = task(eval_without_video=True)
TABLE3 = {
  'table3_raw': {**EVENTS, **EQUAL, **RAW},
  'table3_mel': {**EVENTS, **EQUAL, **MEL},
  'table3_video': {**EVENTS, **EQUAL, **VIDEO},
  'table3_av_raw': {**EVENTS, **EQUAL, **BOTH},
  'table3_av_mel': {**EVENTS, **EQUAL, **BOTH, **AV_MEL},
  'table3_av_mel_tuned': {**EVENTS, **EQUAL, **BOTH, **TUNED},
  'table3_av_raw_no_video_dropout': {
    **EVENTS,
    **EQUAL,
    **BOTH,
    **NO_VIDEO_DROPOUT,
  },
  'table3_av_mel_no_video_dropout': {
    **EVENTS,
    **EQUAL,
    **BOTH,
    **AV_MEL,
    **NO_VIDEO_DROPOUT,
  },
}
# The default is the fusion of video and raw audio.
VARIANTS = {
  '': {},
  'raw': RAW,
  'mel': MEL,
  'video': VIDEO,
  'av_mel': AV_MEL,
  'av_mel_tuned': TUNED,
  'av_raw_no_video_dropout': NO_VIDEO_DROPOUT,
  'av_mel_no_video_dropout': {**AV_MEL, **NO_VIDEO_DROPOUT},
  # The appendix's model for attention maps: every sample is an element.
  'attention_maps': task(patch_shape=(2, 4, 4), samples_per_element=1),
  'events_audio': {**EVENTS, **MEL},
  'events_video': {**EVENTS, **VIDEO},
  'events_av': {**EVENTS, **AV_MEL},
  **TABLE3,
}
SWEEPS = {'table3': tuple(TABLE3)}
NUM_SEEDS = dict.fromkeys(TABLE3, 5)


def get_config(variant: str = '') -> ConfigDict:
  return base.build(OWN, CHANGES, VARIANTS, variant)
