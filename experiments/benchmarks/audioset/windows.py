"""Cuts windows out of clips, in which picture and sound stay in step.

Time is counted in frames of the picture; a frame lasts SAMPLES_PER_FRAME
samples. A clip is as long as the longer of its streams: in the other, the last
frame stays, or silence follows. A clip that is shorter than a window is
repeated from its start.
"""

import numpy as np
from PIL import Image

from experiments.benchmarks.audioset.source import Record, SAMPLES_PER_FRAME
from experiments.benchmarks.images import decoding
from experiments.errors import DamagedRecordError


def clip_frames(record: Record) -> int:
  """Counts a clip's frames. Raises DamagedRecordError if it is empty."""
  length = max(
    len(record['frames']), -(-len(record['audio']) // SAMPLES_PER_FRAME)
  )
  if length == 0:
    raise DamagedRecordError(f'{record["id"]}: neither video nor audio')
  return length


def even_starts(length: int, window: int, count: int) -> np.ndarray:
  """Returns the [count] frames at which windows of a clip start.

  They are evenly spaced, from the clip's first frame to its last. `length` and
  `window` are the clip's and a window's, in frames.
  """
  last = max(length - window, 0)
  return np.round(np.linspace(0, last, count)).astype(int)


def _places(starts: np.ndarray, window: int, length: int) -> np.ndarray:
  return (starts[..., None] + np.arange(window)) % length


def cut_audio(record: Record, starts: np.ndarray, window: int) -> np.ndarray:
  """Cuts windows out of a clip's audio; starts and length are in frames.

  Returns [..., window * SAMPLES_PER_FRAME] int16 for starts [...].
  """
  length = clip_frames(record)
  padded = np.zeros(length * SAMPLES_PER_FRAME, np.int16)
  padded[: len(record['audio'])] = record['audio']
  frames = padded.reshape(length, SAMPLES_PER_FRAME)
  windows = frames[_places(starts, window, length)]
  return windows.reshape(*starts.shape, window * SAMPLES_PER_FRAME)


def cut_video(
  record: Record,
  starts: np.ndarray,
  window: int,
  *,
  size: int,
  rng: np.random.Generator | None,
) -> np.ndarray:
  """Decodes windows of a clip's video and crops their frames, all alike.

  Args:
    record: of the clip; it has video.
    starts: [...] of the windows, in frames.
    window: their length, in frames.
    size: of the result, pixels.
    rng: draws one Inception crop and one flip; None: the central square.

  Returns:
    [..., window, size, size, 3] uint8.

  Raises:
    DamagedRecordError: if a frame is damaged or differs from others in size.
  """
  last = len(record['frames']) - 1
  indices = np.minimum(_places(starts, window, clip_frames(record)), last)
  needed, inverse = np.unique(indices, return_inverse=True)
  decoded = [_decode(record, int(i)) for i in needed]
  sizes = {image.size for image in decoded}
  if len(sizes) > 1:
    raise DamagedRecordError(
      f'{record["id"]}: frames of different sizes: {sorted(sizes)}'
    )
  box, is_flipped = decoding.central_box(*decoded[0].size), False
  if rng is not None:
    box = decoding.inception_box(*decoded[0].size, rng)
    is_flipped = rng.random() < 0.5
  pixels = np.stack(
    [np.asarray(decoding.crop(image, size, box)) for image in decoded]
  )
  if is_flipped:
    pixels = pixels[:, :, ::-1]
  return pixels[inverse.reshape(indices.shape)]


def join_patches(
  patches: np.ndarray, patch_shape: tuple[int, int, int]
) -> np.ndarray:
  """Joins patches [*grid, channels] to a video [frames, height, width, 3]."""
  grid = patches.shape[:3]
  split = patches.reshape(*grid, *patch_shape, -1)
  shape = [size * part for size, part in zip(grid, patch_shape, strict=True)]
  return split.transpose(0, 3, 1, 4, 2, 5, 6).reshape(*shape, -1)


def _decode(record: Record, index: int) -> Image.Image:
  try:
    return decoding.decode(record['frames'][index])
  except DamagedRecordError as error:
    raise DamagedRecordError(
      f'{record["id"]}: frame {index}: {error}'
    ) from error
