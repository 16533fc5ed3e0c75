"""Turns people's arrays into a byte array: a class for each modality.

Each instance is plain data, so that a file can say what a model's input is.
Arrays are made ready in two steps: `prepare` on the host, in NumPy, and
`content` on the device, where integers become floats.

Glossary of shapes:
- B: batch; H, W: height and width; T: frames of video.
- M: input elements; F: mel bins; S: samples.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from perceiver.inputs import ByteArray, ModalityEncoding
from perceiver.modalities.audio import MelSpectrogram, RawAudio
from perceiver.modalities.base import Modality
from perceiver.modalities.convolved_image import ConvolvedImage
from perceiver.modalities.image import Image, permutation
from perceiver.modalities.points import normalize_points, Points
from perceiver.modalities.video import cut_patches, Video

__all__ = [
  'MODALITIES',
  'ConvolvedImage',
  'Image',
  'MelSpectrogram',
  'Modality',
  'Points',
  'RawAudio',
  'Video',
  'byte_array',
  'cut_patches',
  'from_json',
  'normalize_points',
  'permutation',
  'to_json',
]

# By the name that a file gives them.
MODALITIES: dict[str, type[Modality]] = {
  'image': Image,
  'convolved_image': ConvolvedImage,
  'points': Points,
  'video': Video,
  'raw_audio': RawAudio,
  'mel_spectrogram': MelSpectrogram,
}


def to_json(modality: Modality) -> dict[str, Any]:
  """Describes a modality for `from_json`.

  Raises ValueError if its class is not in `MODALITIES`.
  """
  for kind, cls in MODALITIES.items():
    if cls is type(modality):
      return {'type': kind, **dataclasses.asdict(modality)}
  raise ValueError(f'{type(modality).__name__} is not in MODALITIES.')


def from_json(data: Any) -> Modality:
  """Makes a modality. Raises ValueError if `data` does not describe one."""
  if not isinstance(data, dict) or data.get('type') not in MODALITIES:
    raise ValueError(f"'type' must be one of {sorted(MODALITIES)}: {data!r}")
  cls = MODALITIES[data['type']]
  arguments: dict[str, Any] = {
    name: tuple(x) if isinstance(x, list) else x
    for name, x in data.items()
    if name != 'type'
  }
  unknown = arguments.keys() - {x.name for x in dataclasses.fields(cls)}
  if unknown:
    raise ValueError(f'unknown keys {sorted(unknown)} of {data["type"]!r}')
  try:
    return cls(**arguments)
  except TypeError as error:
    raise ValueError(f'{data["type"]!r}: {error}') from error


def byte_array(
  modalities: Mapping[str, Modality],
  batch: Mapping[str, jax.Array],
  *,
  normalized: bool = False,
  mesh: Mesh | None = None,
) -> ByteArray:
  """Makes the model's input; to be called inside a Haiku transform.

  Args:
    modalities: by name; several get modality encodings of these names.
    batch: arrays by their source, as `Modality.prepare` left them. A bool array
      'has_SOURCE' [B] tells which examples have it, 'NAME_mask' [B, *grid]
      which elements of a modality stay; others are zero where they enter the
      model, so that their positions and encodings stay.
    normalized: as for `Modality.content`.
    mesh: the devices that the program is for; None: JAX's own.

  Returns:
    The byte array of all modalities.
  """
  segments = {}
  for name, modality in modalities.items():
    content = modality.content(batch[modality.source], normalized, mesh)
    for key in (f'{name}_mask', f'has_{modality.source}'):
      if key in batch:
        content = _zero_unless(batch[key], content)
    segments[name] = modality.segment(content)
  if len(segments) == 1:
    return ByteArray(tuple(segments.values()))
  return ModalityEncoding()(segments)


def _zero_unless(exists: jax.Array, content: jax.Array) -> jax.Array:
  """Sets content to zero where `exists`, with its first axes, is false."""
  more = (1,) * (content.ndim - exists.ndim)
  return jnp.where(exists.reshape(*exists.shape, *more), content, 0)
