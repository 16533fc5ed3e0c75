"""ImageNet, 1,281,167 images in 1,000 classes (section 4.1)."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from experiments.benchmarks.imagenet import (
  folders,
  known,
  mixing,
  randaugment,
  source,
)
from experiments.benchmarks.imagenet.folders import Record
from experiments.benchmarks.images import decoding, files, pictures
from experiments.benchmarks.images.task import image_reader, ImageTask
from experiments.errors import DamagedRecordError, DataNotFoundError
from experiments.task import Batch
from perceiver.effects import Evaluation, Training
from perceiver.importers.image_processor import IMAGENET
from perceiver.ranges import (
  Count,
  CountOrZero,
  FractionBelowOne,
  PositiveOrZero,
  Range,
)

MAGNITUDES = Range(f'[0, {randaugment.MAX_MAGNITUDE}]')
CROPS = {'area': decoding.inception_box, 'sides': decoding.distorted_box}
PARTNERS = ('neighbours', 'another_batch')


def read_file(path: str) -> Any:
  name = os.path.basename(path)
  return Record(name=name, jpeg=files.read(path), label=0, is_own=True)


@dataclasses.dataclass(kw_only=True)
class ImageNet(ImageTask):
  """RGB images, with Inception crops and RandAugment in training."""

  num_classes: Count
  # Images; it is an error to find other numbers of them.
  num_train: Training[Count]
  num_eval: Evaluation[Count]
  rand_augment_layers: Training[CountOrZero]
  rand_augment_magnitude: Training[Annotated[float, MAGNITUDES]]
  label_smoothing: Training[FractionBelowOne]
  # The Beta distribution's parameters; 0: no mixup.
  mixup_alpha: Training[PositiveOrZero]
  cutmix: Training[bool]
  # The authors' released code has the other value of each of these. Their
  # defaults are those of runs from before there were such keys.
  # 'randaugment': its paper's 14, after the resize. 'perceiver_io': 16, on the
  # crop at its own resolution.
  rand_augment_operations: Training[str] = 'randaugment'
  # What is uniform: the 'area' (`decoding.inception_box`), or the 'sides'
  # (`decoding.distorted_box`).
  train_crop: Training[str] = 'area'
  # Whether evaluation crops whole pixels; otherwise exactly 224/256.
  round_eval_crop: Evaluation[bool] = False
  # Mixup and CutMix join examples with their 'neighbours' in the batch, or with
  # 'another_batch': then a step takes twice as many examples.
  mix_with: Training[str] = 'neighbours'
  eval_splits = ('validation',)
  mean, stddev = IMAGENET['mean'], IMAGENET['stddev']
  file_reader = image_reader(read_file)

  def __post_init__(self) -> None:
    super().__post_init__()
    for name, allowed in (
      ('rand_augment_operations', randaugment.LISTS),
      ('train_crop', CROPS),
      ('mix_with', PARTNERS),
    ):
      if getattr(self, name) not in allowed:
        raise ValueError(
          f'task.{name}={getattr(self, name)!r} is none of {tuple(allowed)}.'
        )

  def num_examples(self, split: str) -> int:
    return {'train': self.num_train, 'validation': self.num_eval}[split]

  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    return source.open_source(
      data_dir,
      split,
      num_examples=self.num_examples(split),
      num_classes=self.num_classes,
    )

  def class_names(self, data_dir: str | None) -> Sequence[str]:
    names = known.known_names()
    if self.num_classes == known.NUM_CLASSES:
      wnids = _folder_names(data_dir) or known.known_wnids()
    else:  # A stand-in, or a subset.
      wnids = source.classes(data_dir, self.num_classes)
    return [names.get(wnid, wnid) for wnid in wnids]

  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    image = _decode(record)
    box = CROPS[self.train_crop](*image.size, rng)
    resizes_first = self.rand_augment_operations == 'randaugment'
    if resizes_first:
      image = decoding.crop(image, self.image_size, box)
    else:
      image = image.crop(box)
    image = decoding.random_flip(image, rng)
    image = randaugment.rand_augment(
      image,
      rng,
      self.rand_augment_layers,
      self.rand_augment_magnitude,
      randaugment.LISTS[self.rand_augment_operations],
    )
    if not resizes_first:
      image = decoding.crop(image, self.image_size)
    return _example(image, record)

  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    image = _decode(record)
    box = decoding.central_box(*image.size, whole_pixels=self.round_eval_crop)
    return _example(decoding.crop(image, self.image_size, box), record)

  @property
  def num_mixed(self) -> int:
    is_mixed = bool(self.mixup_alpha or self.cutmix)
    return 2 if is_mixed and self.mix_with == 'another_batch' else 1

  def augment_batch(self, batch: Batch, key: jax.Array) -> Batch:
    """Adds 'targets' [B, classes]: smoothed, and mixed as the images are."""
    if not (self.label_smoothing or self.mixup_alpha or self.cutmix):
      return batch
    # [2 B] -> [B, 2]: the two of a pair are on the same device.
    parts = [
      {
        k: x.reshape(-1, self.num_mixed, *x.shape[1:])[:, i]
        for k, x in batch.items()
      }
      for i in range(self.num_mixed)
    ]
    batch = parts[0]
    examples, *others = map(self._with_targets, parts)
    image, targets = mixing.mix(
      examples,
      others[0] if others else mixing.neighbours(examples),
      key,
      mixup_alpha=self.mixup_alpha,
      use_cutmix=self.cutmix,
    )
    return {**batch, 'image': image, 'targets': targets}

  def _with_targets(self, batch: Batch) -> mixing.Examples:
    targets = optax.smooth_labels(
      jax.nn.one_hot(batch['label'], self.num_classes), self.label_smoothing
    )
    image = batch['image'].astype(jnp.float32)
    return mixing.Examples(image, targets, batch['mask'])

  def loss(self, logits: jax.Array, batch: Batch) -> jax.Array:
    if 'targets' in batch:
      return optax.softmax_cross_entropy(logits, batch['targets'])
    return super().loss(logits, batch)


def _folder_names(data_dir: str | None) -> Sequence[str] | None:
  """Returns the classes if they are 1,000 folders, which may be anybody's."""
  if not data_dir:
    return None
  try:
    return folders.find_classes(data_dir, known.NUM_CLASSES)
  except (DataNotFoundError, ValueError):
    return None


def _decode(record: Any) -> Image.Image:
  # The data set's own images stay as stored, even where EXIF would turn them,
  # as in the paper's pipeline.
  decode = pictures.decode if record.get('is_own') else decoding.decode
  try:
    return decode(record['jpeg'])
  except DamagedRecordError as error:
    raise DamagedRecordError(f'{record["name"]}: {error}') from error


def _example(image: Image.Image, record: Any) -> dict[str, np.ndarray]:
  label = np.asarray(record['label'], np.int32)
  return {'image': np.asarray(image), 'label': label}
