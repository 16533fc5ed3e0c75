"""How people see clips: their frames, sound and spectrogram."""

from collections.abc import Mapping, Sequence
import dataclasses

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.audioset import windows
from experiments.display import Display, View
from experiments.task import Batch
from perceiver.modalities import MelSpectrogram, Modality, Video


@dataclasses.dataclass(frozen=True)
class ClipDisplay(Display):
  """Shows the windows of a clip."""

  modalities: Mapping[str, Modality]
  num_eval_windows: int

  @property
  def num_windows(self) -> int:
    return self.num_eval_windows

  def window(self, example: Batch, index: int) -> Batch:
    streams = {x.source for x in self.modalities.values()}
    return {**example, **{x: example[x][index] for x in streams}}

  def views(self, window: Batch) -> tuple[View, ...]:
    views = []
    for modality in self.modalities.values():
      array = np.asarray(window[modality.source])
      if isinstance(modality, Video):
        frames = windows.join_patches(array, modality.patch_shape)
        frames = frames[:: modality.patch_shape[0]] / np.float32(255)
        views.append(View('video', frames, modality.grid))
        continue
      content = np.asarray(modality.content(jnp.asarray(array[None])))[0]
      if not window['has_audio']:
        content = np.zeros_like(content)
      if isinstance(modality, MelSpectrogram):
        views.append(View('spectrogram', content[..., 0], modality.grid))
      else:
        views.append(View('sound', content.reshape(-1), content.shape[:1]))
    return tuple(views)

  def truth(self, example: Batch, class_names: Sequence[str]) -> str:
    labels = np.flatnonzero(example['labels']).tolist()
    return ', '.join(class_names[i] for i in labels) or 'no class'
