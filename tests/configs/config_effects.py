"""Effects of each key in the configs other than the digits'."""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from configs import audioset, fashion_mnist, imagenet, modelnet40
from experiments import benchmarks, models
from tests.benchmarks.audioset.clips import clip, SMALL


def image_record(side=32):
  """A record with the fields of both Fashion-MNIST's and ImageNet's sources.

  With 32 pixels ImageNet's evaluation crop is 28, rounded or not.
  """
  pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG')
  return {'image': pixels[:28, :28, 0], 'jpeg': file.getvalue(), 'label': 1}


def cloud_record():
  rng = np.random.default_rng(0)
  return {'points': rng.normal(size=(2048, 3)), 'label': 1}


def image_example(config):
  """Training examples, decoded, cropped and augmented."""
  task = benchmarks.create(**config.task)
  examples = [
    task.train_example(image_record(), np.random.default_rng(seed))['image']
    for seed in range(4)
  ]
  return np.stack(examples).tobytes()


def eval_example(config):
  """An evaluation example of an image whose crop has no whole pixels."""
  task = benchmarks.create(**config.task)
  return task.eval_example(image_record(side=30))['image'].tobytes()


def mixed_batch(config):
  """A training batch after augmentation on the device."""
  task = benchmarks.create(**config.task)
  spec = task.batch_spec(4)
  batch = {
    name: jnp.arange(math.prod(x.shape)).reshape(x.shape).astype(x.dtype)
    for name, x in spec.items()
  } | {'mask': jnp.ones(4, bool)}
  batch = jax.jit(task.augment_batch)(batch, jax.random.key(0))
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(dict(batch))]


def cloud_example(config):
  """A training example of a point cloud."""
  task = benchmarks.create(**config.task)
  rng = np.random.default_rng(0)
  return task.train_example(cloud_record(), rng)['points'].tobytes()


def clip_examples(config):
  """Examples of a clip with video and audio, for training and evaluation."""
  task = benchmarks.create(**config.task)
  examples = (
    task.train_example(clip(), np.random.default_rng(0)),
    task.eval_example(clip()),
  )
  return [x.tobytes() for x in jax.tree.leaves(examples)]


def input_shapes(config):
  """The shapes of the byte array."""
  return str(jax.tree.map(jnp.shape, models.model_shapes(config)[1]))


def train_size(config):
  return benchmarks.create(**config.task).num_examples('train')


def eval_splits(config):
  return benchmarks.create(**config.task).eval_splits


def eval_size(config):
  task = benchmarks.create(**config.task)
  return task.num_examples(task.eval_splits[0])


# Effects in the configs other than the digits', on their smallest variants.
IMAGES = {'task.image_size': 16, 'task.num_classes': 5}
CLIPS_MEL = {**SMALL, 'task.inputs': ('mel',)}
OTHER_EFFECTS = {
  **{
    (audioset, f'task.{key}'): (outcome, value, also)
    for outcome, also, values in (
      (
        clip_examples,
        SMALL,
        {'num_frames': 6, 'image_size': 24, 'num_eval_windows': 4},
      ),
      (
        input_shapes,
        SMALL,
        {
          'inputs': ('mel', 'video'),
          'patch_shape': (2, 4, 8),
          'samples_per_element': 64,
          'num_bands': 4,
        },
      ),
      (input_shapes, CLIPS_MEL, {'num_mel_bins': 8, 'mel_hop': 960}),
      (
        mixed_batch,
        SMALL,
        {
          'video_dropout': 0.9,
          'color_probability': 0.1,
          'max_brightness': 0.3,
          'max_contrast': 0.3,
          'max_saturation': 0.3,
          'max_hue': 0.1,
        },
      ),
      (
        mixed_batch,
        CLIPS_MEL,
        {
          'spectrogram_dropout': 0.5,
          'spec_augment_masks': 2,
          'spec_augment_bins': 8,
          'spec_augment_frames': 8,
        },
      ),
      (train_size, {}, {'num_train': 3}),
      (eval_size, {}, {'num_eval': 3}),
      (eval_splits, {}, {'eval_without_video': True}),
    )
    for key, value in values.items()
  },
  (fashion_mnist, 'task.max_shift'): (image_example, 3, {}),
  (fashion_mnist, 'task.flip'): (image_example, False, {}),
  (fashion_mnist, 'task.image_size'): (image_example, 14, {}),
  (fashion_mnist, 'task.validation_fraction'): (train_size, 0.1, {}),
  (fashion_mnist, 'task.test_fraction'): (train_size, 0.1, {}),
  (fashion_mnist, 'task.num_train'): (train_size, 7, {}),
  (imagenet, 'task.image_size'): (image_example, 17, {}),
  (imagenet, 'task.rand_augment_layers'): (image_example, 1, IMAGES),
  (imagenet, 'task.rand_augment_magnitude'): (image_example, 9.0, IMAGES),
  (imagenet, 'task.rand_augment_operations'): (
    image_example,
    'randaugment',
    IMAGES,
  ),
  (imagenet, 'task.train_crop'): (image_example, 'sides', IMAGES),
  (imagenet, 'task.round_eval_crop'): (eval_example, True, IMAGES),
  (imagenet, 'task.mix_with'): (mixed_batch, 'another_batch', IMAGES),
  (imagenet, 'task.label_smoothing'): (mixed_batch, 0.0, IMAGES),
  (imagenet, 'task.mixup_alpha'): (mixed_batch, 0.0, IMAGES),
  (imagenet, 'task.cutmix'): (mixed_batch, False, IMAGES),
  (modelnet40, 'task.dataset'): (train_size, 'solids', {}),
  (modelnet40, 'task.validation_fraction'): (train_size, 0.1, {}),
  (modelnet40, 'task.max_translation'): (cloud_example, 0.02, {}),
  (modelnet40, 'task.vertical_axis'): (
    cloud_example,
    1,
    {'task.max_rotation': 90.0},
  ),
  (modelnet40, 'task.grid'): (cloud_example, (44, 44), {}),
}
