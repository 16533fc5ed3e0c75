"""AudioSet: sound and picture, any number of 527 labels (section 4.2).

Two of the paper's words differ here. Its videos of 10 seconds are clips, as in
the flag `--clips`: a video is the whole one on YouTube. Its clips of 32 frames
are windows, as in the key `num_eval_windows`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import os
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.audioset import (
  color_jitter,
  source,
  spec_augment,
  windows,
)
from experiments.benchmarks.audioset.average_precision import summarize
from experiments.benchmarks.audioset.display import ClipDisplay
from experiments.benchmarks.audioset.media.formats import SUFFIXES
from experiments.display import Display
from experiments.errors import DataNotFoundError
from experiments.task import (
  Batch,
  FileReader,
  naming_the_section,
  Summary,
  Task,
)
from perceiver.effects import Evaluation, Training
from perceiver.modalities import (
  cut_patches,
  MelSpectrogram,
  Modality,
  RawAudio,
  Video,
)
from perceiver.ranges import Count, CountOrZero, Fraction, Range

MAX_PROCESSES = 8  # For people's own clips; each may take a GB.
INPUTS = ('video', 'raw', 'mel')  # The last two are forms of the audio.
WITHOUT_VIDEO = 'eval_without_video'  # The split 'eval', of which one hears.


def read_files(
  paths: Iterable[str],
) -> Iterator[tuple[str, Any | Exception]]:
  """Reads clips in processes, because a bad file may kill the one it is in.

  Raises:
    DataNotFoundError: if what decodes clips is not installed.
  """
  try:
    from experiments.benchmarks.audioset import files
  except ImportError as error:
    raise DataNotFoundError(
      f"{error}: pip install -e '.[experiments,audioset]' brings what reads"
      ' clips.'
    ) from error
  num_processes = min(os.cpu_count() or 1, MAX_PROCESSES)
  return files.read(paths, num_processes)


@dataclasses.dataclass
class AudioSet(Task):
  """Windows of clips: their audio, their video, or both.

  A stream that a clip lacks, or that dropout removes in training, is zero where
  it enters the model. Its elements stay, with their positions and modality
  encoding, so that evaluation shows nothing that training has not.
  """

  inputs: tuple[str, ...]  # Some of INPUTS.
  num_frames: Count  # Of a window, at 25 Hz.
  image_size: Count
  patch_shape: tuple[Count, Count, Count]  # Frames, pixels, pixels.
  samples_per_element: Count  # Of raw audio, at 48 kHz.
  num_mel_bins: Count
  mel_hop: Count  # Samples.
  num_bands: Count  # Of Fourier features; their max resolution is the grid's.
  num_classes: Count
  num_train: Training[Count]  # Clips.
  num_eval: Evaluation[Count]
  # Of each clip; evaluation averages their scores.
  num_eval_windows: Evaluation[Count]
  # The probability that an example loses its video.
  video_dropout: Training[Fraction]
  spectrogram_dropout: Training[Fraction]  # Or its mel spectrogram.
  # SpecAugment: the masks on each axis, and the most that one covers.
  spec_augment_masks: Training[CountOrZero]
  spec_augment_bins: Training[CountOrZero]
  spec_augment_frames: Training[CountOrZero]
  # See `color_jitter`.
  color_probability: Training[Fraction]
  max_brightness: Training[Fraction]
  max_contrast: Training[Fraction]
  max_saturation: Training[Fraction]
  max_hue: Training[Annotated[float, Range('[0, 0.5]')]]
  # Also evaluates with the video taken away, which its dropout prepares for.
  eval_without_video: Evaluation[bool]
  best_metric = 'mAP'
  has_several_labels = True
  file_reader = FileReader(tuple(sorted(SUFFIXES)), read_files)

  def __post_init__(self) -> None:
    if not self.inputs or not set(self.inputs) <= set(INPUTS):
      raise ValueError(f'task.inputs={self.inputs!r} must be some of {INPUTS}.')
    with naming_the_section():
      self._video = Video(
        num_bands=self.num_bands,
        num_frames=self.num_frames,
        height=self.image_size,
        width=self.image_size,
        patch_shape=self.patch_shape,
      )
      self._raw = RawAudio(
        num_bands=self.num_bands,
        num_samples=self.num_samples,
        samples_per_element=self.samples_per_element,
      )
      self._mel = MelSpectrogram(
        num_bands=self.num_bands,
        num_samples=self.num_samples,
        num_mel_bins=self.num_mel_bins,
        mel_hop=self.mel_hop,
        sample_rate=source.SAMPLE_RATE,
      )
    bins, frames = self._mel.grid
    if self.spec_augment_bins > bins or self.spec_augment_frames > frames:
      raise ValueError(
        f'task.spec_augment_bins={self.spec_augment_bins} and'
        f' task.spec_augment_frames={self.spec_augment_frames} exceed the'
        f' spectrogram of {bins} x {frames}.'
      )
    self.eval_splits = ('eval',)
    if self.eval_without_video:
      if 'video' not in self.inputs or len(self.inputs) == 1:
        raise ValueError(
          f'task.eval_without_video needs the video and another of task.inputs='
          f'{self.inputs!r}.'
        )
      self.eval_splits = ('eval', WITHOUT_VIDEO)

  @property
  def num_samples(self) -> int:
    """Samples of a window."""
    return self.num_frames * source.SAMPLES_PER_FRAME

  @property
  def modalities(self) -> Mapping[str, Modality]:
    return {name: getattr(self, f'_{name}') for name in self.inputs}

  @property
  def _streams(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Streams of a window, by name, in dtypes that are smaller than floats."""
    return {x.source: x.prepared for x in self.modalities.values()}

  def num_examples(self, split: str) -> int:
    return self.num_train if split == 'train' else self.num_eval

  def source(self, split: str, data_dir: str | None) -> source.Source:
    if split == WITHOUT_VIDEO:
      clips = self.source('eval', data_dir)
      return dataclasses.replace(clips, hidden=('video',))
    return source.open_source(
      data_dir,
      split,
      num_examples=self.num_examples(split),
      num_classes=self.num_classes,
    )

  def class_names(self, data_dir: str | None) -> Sequence[str]:
    return [name for _, name in source.read_info(data_dir)['classes']]

  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    last = max(windows.clip_frames(record) - self.num_frames, 0)
    start = rng.integers(last, endpoint=True)
    return self._windows(record, np.asarray(start), rng)

  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    starts = windows.even_starts(
      windows.clip_frames(record), self.num_frames, self.num_eval_windows
    )
    return self._windows(record, starts, None)

  def _windows(
    self, record: Any, starts: np.ndarray, rng: np.random.Generator | None
  ) -> dict[str, np.ndarray]:
    """Makes an example; its streams begin with the axes of `starts`."""
    labels = np.zeros(self.num_classes, bool)
    labels[record['labels']] = True
    example: dict[str, Any] = {'labels': labels}
    for name, spec in self._streams.items():
      stream = record[{'video': 'frames', 'audio': 'audio'}[name]]
      is_there = len(stream) > 0 and name not in record.get('hidden', ())
      example[f'has_{name}'] = np.bool_(is_there)
      if not is_there:
        example[name] = np.zeros((*starts.shape, *spec.shape), spec.dtype)
      elif name == 'audio':
        example[name] = windows.cut_audio(record, starts, self.num_frames)
      else:
        video = windows.cut_video(
          record, starts, self.num_frames, size=self.image_size, rng=rng
        )
        example[name] = cut_patches(video, self.patch_shape)
    return example

  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    spec = {'labels': jax.ShapeDtypeStruct((self.num_classes,), jnp.bool_)}
    for name, stream in self._streams.items():
      spec[name] = stream
      spec[f'has_{name}'] = jax.ShapeDtypeStruct((), jnp.bool_)
    return spec

  def eval_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    windows = {
      name: jax.ShapeDtypeStruct((self.num_eval_windows, *x.shape), x.dtype)
      for name, x in self._streams.items()
    }
    return self.example_spec() | windows

  def augment_batch(self, batch: Batch, key: jax.Array) -> Batch:
    """Jitters colours, drops streams and adds SpecAugment's 'mel_mask'."""
    color_key, video_key, mel_key, mask_key = jax.random.split(key, 4)
    batch = dict(batch)
    shape = batch['labels'].shape[:1]
    if 'video' in self.inputs:
      video = color_jitter.color_jitter(
        batch['video'],
        color_key,
        probability=self.color_probability,
        max_brightness=self.max_brightness,
        max_contrast=self.max_contrast,
        max_saturation=self.max_saturation,
        max_hue=self.max_hue,
      )
      batch['video'] = jnp.round(video).astype(jnp.uint8)
      is_kept = ~jax.random.bernoulli(video_key, self.video_dropout, shape)
      batch['has_video'] &= is_kept
    if 'mel' in self.inputs:
      is_kept = ~jax.random.bernoulli(mel_key, self.spectrogram_dropout, shape)
      mask = spec_augment.spec_augment_mask(
        mask_key,
        (*shape, *self._mel.grid),
        num_masks=self.spec_augment_masks,
        max_bins=self.spec_augment_bins,
        max_frames=self.spec_augment_frames,
      )
      batch['mel_mask'] = mask & is_kept[:, None, None]
    return batch

  @property
  def display(self) -> Display:
    return ClipDisplay(self.modalities, self.num_eval_windows)

  def predict(
    self, apply: Callable[[Batch], jax.Array], batch: Batch
  ) -> jax.Array:
    """[B, W, classes] logits of W windows, one at a time to save memory."""

    def one(window: jax.Array) -> jax.Array:
      return apply(
        {**batch, **{name: batch[name][:, window] for name in self._streams}}
      )

    logits = jax.lax.map(one, jnp.arange(self.num_eval_windows))
    return jnp.swapaxes(logits, 0, 1)

  def scores(self, logits: jax.Array) -> jax.Array:
    """[B, classes] probabilities: means over windows."""
    return jnp.mean(jax.nn.sigmoid(logits), axis=1)

  def loss(self, logits: jax.Array, batch: Batch) -> jax.Array:
    """[B] sigmoid cross-entropies: sums over classes, means over windows.

    With a sum over classes, gradients are of ImageNet's size, for which LAMB's
    eps is chosen.
    """
    batch_size, classes = batch['labels'].shape
    logits = logits.reshape(batch_size, -1, classes)
    labels = jnp.broadcast_to(batch['labels'][:, None], logits.shape)
    losses = optax.sigmoid_binary_cross_entropy(
      logits, labels.astype(jnp.float32)
    )
    return jnp.mean(jnp.sum(losses, axis=-1), axis=-1)

  def metrics(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    del logits, batch  # Average precision is not an average over examples.
    return {}

  def outputs(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    return {'scores': self.scores(logits), 'labels': batch['labels']}

  def summarize(
    self, outputs: Mapping[str, np.ndarray], class_names: Sequence[str]
  ) -> Summary:
    return summarize(outputs['scores'], outputs['labels'], class_names)
