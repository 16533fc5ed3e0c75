"""Small AudioSet clips, without a decoder."""

import io

import numpy as np
from PIL import Image

from configs import audioset as configs
from experiments import benchmarks
from experiments.benchmarks.audioset import windows

SAMPLES = 1920  # Of a frame.
SMALL = {
  'task.num_frames': 8,
  'task.image_size': 16,
  'task.patch_shape': (2, 8, 8),
  'task.num_mel_bins': 12,
  'task.mel_hop': 1920,
  'task.num_bands': 3,
  'task.num_classes': 4,
  'task.num_train': 12,
  'task.num_eval': 7,
  'task.num_eval_windows': 3,
  'task.spec_augment_masks': 1,
  'task.spec_augment_bins': 3,
  'task.spec_augment_frames': 2,
  'data.num_workers': 0,
  'data.max_damaged': 0.2,
  'model.num_latents': 4,
  'model.latent_channels': 16,
  'model.num_self_attends': 1,
  'model.self_attend_heads': 2,
  'model.compute_dtype': 'float32',
  'train.batch_size': 4,
  'train.steps': 4,
  'train.eval_every': 2,
  'eval.batch_size': 4,
}


def config(variant='', **overrides):
  small = configs.get_config(variant)
  small.update_from_flattened_dict(SMALL | overrides)
  return small


def task(variant='', **overrides):
  return benchmarks.create(**config(variant, **overrides).task)


def jpeg(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=95)
  return file.getvalue()


def gray_frames(levels, shape=(18, 24)):
  """A frame of one grey level for each of `levels`."""
  return [jpeg(np.full((*shape, 3), level, np.uint8)) for level in levels]


def clip(
  *, frames=20, samples=None, labels=(1,), seed=0, name='clip', event=None
):
  """A clip of noise; or black and silent but for a flash and a click.

  By default the sound is as long as the frames. `event` is the frame of the
  flash, in the middle of which the click is.
  """
  rng = np.random.default_rng(seed)
  samples = frames * SAMPLES if samples is None else samples
  if event is None:
    video = [
      jpeg(rng.integers(256, size=(18, 24, 3), dtype=np.uint8))
      for _ in range(frames)
    ]
    audio = rng.integers(-9999, 9999, samples).astype(np.int16)
  else:
    video = gray_frames([255 * (i == event) for i in range(frames)])
    audio = np.zeros(samples, np.int16)
    audio[event * SAMPLES + SAMPLES // 2] = 30_000
  return {
    'id': name,
    'labels': np.array(labels, np.int64),
    'frames': video,
    'audio': audio,
  }


def uncut(patches, patch_shape=SMALL['task.patch_shape']):
  """The [frames, height, width, 3] that a window's patches were cut from."""
  return windows.join_patches(patches, patch_shape)
