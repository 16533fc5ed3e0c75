"""Converts the Perceiver IO models for images (arXiv 2107.14795) to ours.

The authors have three, which differ in what enters the model: pixels with
Fourier features; pixels after a linear layer, with learned positions; the
features of a convolution, with Fourier features. Several programs save them,
with names of their own: see `huggingface` and `released`.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from perceiver import modalities
from perceiver.modalities import Modality
from perceiver.weight_files import WeightsError

FOURIER, LEARNED, CONV = 'fourier', 'learned', 'conv'
SIZE = 224  # Of images, but where positions are learned.
NUM_BANDS = 64
MAX_RESOLUTIONS = {FOURIER: float(SIZE), CONV: SIZE / 4}
POSITION_CHANNELS = 2 * (2 * NUM_BANDS + 1)  # Of the Fourier features.
BATCH_NORM_EPSILON = 1e-5
# Settings of `Perceiver` that all of these models have.
MODEL = {'num_cross_attends': 1, 'head': 'query'}
# Layers of our blocks. Norms end in 'norm', all others are linear.
ATTENTION = ('query', 'key', 'value', 'output')
DENSE = tuple(
  f'dense_block/{x}' for x in ('layer_norm', 'linear_0', 'linear_1')
)
CROSS_ATTEND = ('latent_norm', 'input_norm', *ATTENTION, *DENSE)
SELF_ATTEND = ('layer_norm', *ATTENTION, *DENSE)

# Our names of tensors, and theirs for the same numbers.
Names = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Format:
  """How a program names and stores the tensors of these models."""

  separator: str  # Between the parts of a name.
  leaves: Mapping[str, str]  # 'w', 'b', 'scale' and 'offset'.
  latents: str
  query: str  # The decoder's.
  head: str
  cross_attend: str
  decoder: str  # Its cross-attend.
  self_attend: Callable[[int], str]  # By its number.
  cross_attend_layers: tuple[str, ...]  # In the order of `CROSS_ATTEND`.
  self_attend_layers: tuple[str, ...]  # In the order of `SELF_ATTEND`.
  pixels: str  # The linear layer of pixels, a convolution of 1 x 1.
  positions: str  # Learned ones.
  positions_projection: str  # The linear layer that they pass.
  convolution: str
  batch_norm: str
  batch_norm_statistics: tuple[str, str]  # Mean and variance.
  ignored: tuple[str, ...]  # Tensors that do nothing in inference.
  # Whether weights are [outputs, inputs, height, width], as PyTorch has them,
  # or [height, width, inputs, outputs].
  is_transposed: bool

  def join(self, *parts: str) -> str:
    return self.separator.join(parts)

  def layer(self, ours: str, theirs: str) -> Names:
    """Returns the names of a layer's two parameters."""
    leaves = ('scale', 'offset') if ours.endswith('norm') else ('w', 'b')
    return {f'{ours}/{x}': self.join(theirs, self.leaves[x]) for x in leaves}

  def names(self, num_self_attends: int) -> Names:
    """Returns the names of all parameters behind the input."""
    cross = tuple(zip(CROSS_ATTEND, self.cross_attend_layers, strict=True))
    own = tuple(zip(SELF_ATTEND, self.self_attend_layers, strict=True))
    blocks = [
      ('perceiver/~/cross_attend_0', self.cross_attend, cross),
      ('perceiver/decoder/cross_attend', self.decoder, cross),
    ]
    for i in range(num_self_attends):
      ours = f'perceiver/~/latent_transformer_0/self_attend_{i}'
      blocks.append((ours, self.self_attend(i), own))
    names = {
      'perceiver/latents': self.latents,
      'perceiver/decoder/query': self.query,
      **self.layer('perceiver/head', self.head),
    }
    for ours, theirs, layers in blocks:
      for name, other in layers:
        names |= self.layer(f'{ours}/{name}', self.join(theirs, other))
    return names


def image(
  kind: str,
  *,
  size: int,
  channels: int,
  position_channels: int,
  normalization: Mapping[str, Any],
  padding: str = 'same',
) -> Modality:
  """Returns the input of a model.

  Args:
    kind: one of the three.
    size: the side of images, if positions are learned.
    channels: those that the layer before the positions gives, if there is one.
    position_channels: those of learned positions.
    normalization: the fields 'mean', 'stddev' and, optionally, 'white'.
    padding: of the convolution, see `modalities.ConvolvedImage`.

  Raises:
    ValueError: if something is out of its range.
  """
  side = size if kind == LEARNED else SIZE
  common: dict[str, Any] = {
    **{'height': side, 'width': side, 'channels': 3},
    **normalization,
  }
  if kind == LEARNED:
    return modalities.Image(
      num_bands=1,
      positions='learned',
      position_channels=position_channels,
      projection=channels,
      **common,
    )
  common |= {'num_bands': NUM_BANDS, 'max_resolution': MAX_RESOLUTIONS[kind]}
  if kind == FOURIER:
    return modalities.Image(**common)
  return modalities.ConvolvedImage(features=channels, padding=padding, **common)


def convert(
  where: str,
  tensors: Mapping[str, np.ndarray],
  form: Format,
  kind: str,
  *,
  num_self_attends: int,
  image_size: int,
) -> tuple[dict[str, np.ndarray], Names]:
  """Returns our tensors by name, and the names of those they are made from.

  Args:
    where: the file of the tensors, for errors.
    tensors: theirs by name, as float32.
    form: how they are named and stored.
    kind: one of the three models.
    num_self_attends: number of self-attends in the latent Transformer.
    image_size: the side of the image that learned positions are for.

  Raises:
    WeightsError: if tensors are missing or unknown, or cannot be converted.
  """
  source = _Source(where, dict(tensors), form)
  names = form.names(num_self_attends)
  ours = {name: source.take(theirs) for name, theirs in names.items()}
  if form.is_transposed:
    ours = {k: x.T if k.endswith('/w') else x for k, x in ours.items()}
  if kind == LEARNED:
    found, more = _learned_input(source, image_size)
  elif kind == CONV:
    found, more = _convolution(source)
  else:
    found, more = {}, {}
  if kind != LEARNED:
    _reorder_channels(ours)
  unknown = [x for x in source.tensors if x not in form.ignored]
  if unknown:
    raise WeightsError(
      f'{where} does not fit the model: unknown [{", ".join(unknown)}].'
    )
  return ours | found, names | more


@dataclasses.dataclass
class _Source:
  """Tensors that have not been converted yet."""

  where: str
  tensors: dict[str, np.ndarray]
  form: Format

  def take(self, name: str, num_axes: int | None = None) -> np.ndarray:
    """Removes and returns a tensor, or raises WeightsError."""
    if name not in self.tensors:
      raise WeightsError(
        f'{self.where} does not fit the model: missing [{name}].'
      )
    tensor = self.tensors.pop(name)
    if num_axes is not None and tensor.ndim != num_axes:
      raise self.misshapen(name, tensor)
    return tensor

  def kernel(self, name: str, size: int) -> np.ndarray:
    """Takes a square kernel as [height, width, inputs, outputs]."""
    tensor = self.take(name, num_axes=4)
    kernel = tensor.transpose(2, 3, 1, 0) if self.form.is_transposed else tensor
    if kernel.shape[:2] != (size, size):
      raise self.misshapen(name, tensor)
    return kernel

  def misshapen(self, name: str, tensor: np.ndarray) -> WeightsError:
    return WeightsError(f'{self.where}: {name!r} has the shape {tensor.shape}.')


def _learned_input(
  source: _Source, size: int
) -> tuple[dict[str, np.ndarray], Names]:
  """Converts the linear layer of pixels, and learned positions."""
  form = source.form
  names = form.layer('projection', form.pixels)
  ours = {
    'projection/w': source.kernel(names['projection/w'], 1)[0, 0],
    'projection/b': source.take(names['projection/b']),
  }
  table = source.take(form.positions, num_axes=2)
  projection = form.layer('positions', form.positions_projection)
  weight = source.take(projection['positions/w'], num_axes=2)
  weight = weight.T if form.is_transposed else weight
  bias = source.take(projection['positions/b'])
  if bias.shape != weight.shape[1:]:
    raise source.misshapen(projection['positions/b'], bias)
  # The projection of a learned table is a learned table.
  try:
    table = table.astype(np.float64) @ weight.astype(np.float64) + bias
    table = table.reshape(1, size, size, -1).astype(np.float32)
  except ValueError as error:
    raise WeightsError(
      f'{source.where}: {form.positions!r}: the learned positions do not fit'
      f' image_size={size}: {error}'
    ) from error
  names['learned_positions/positions'] = form.positions
  return {**ours, 'learned_positions/positions': table}, names


def _convolution(
  source: _Source,
) -> tuple[dict[str, np.ndarray], Names]:
  """Folds the batch norm behind the convolution into it."""
  form = source.form
  name = form.join(form.convolution, form.leaves['w'])
  kernel = source.kernel(name, 7).astype(np.float64)
  norm = form.layer('norm', form.batch_norm)
  statistics = (
    form.join(form.batch_norm, x) for x in form.batch_norm_statistics
  )
  vectors: list[np.ndarray] = []
  for vector in (*norm.values(), *statistics):
    tensor = source.take(vector)
    if tensor.size != kernel.shape[-1]:
      raise source.misshapen(vector, tensor)
    vectors.append(tensor.reshape(-1).astype(np.float64))
  scale, offset, mean, variance = vectors
  if (variance < 0).any():
    raise WeightsError(f'{source.where}: {vector!r} has negative variances.')
  factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
  ours = {
    'convolution/w': (kernel * factor).astype(np.float32),
    'convolution/b': (offset - mean * factor).astype(np.float32),
  }
  names = {'convolution/w': name, 'convolution/b': norm['norm/offset']}
  return ours, names


def _reorder_channels(tensors: dict[str, np.ndarray]) -> None:
  """Brings the input's channels, which end with Fourier features, in our order.

  Theirs are y, x, the sines of y and of x, the cosines of y and of x. Ours are
  y's sines, cosines and y itself, then x's.
  """
  for name in ('input_norm/scale', 'input_norm/offset', 'key/w', 'value/w'):
    name = f'perceiver/~/cross_attend_0/{name}'
    tensor = tensors[name]
    count = len(tensor) - POSITION_CHANNELS if tensor.ndim else -1
    if count < 0:
      continue  # Other shapes are refused later.
    sines = np.arange(NUM_BANDS) + count + 2
    cosines = sines + 2 * NUM_BANDS
    order = [np.arange(count)]
    for axis in (0, 1):
      bands = axis * NUM_BANDS
      order += [sines + bands, cosines + bands, np.array([count + axis])]
    tensors[name] = tensor[np.concatenate(order)]
