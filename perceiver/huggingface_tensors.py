"""Converts tensors of transformers' Perceivers for images to our parameters."""

from collections.abc import Mapping

import numpy as np

from perceiver import weight_files
from perceiver.weight_files import PathLike, WeightsError

# Our names of tensors, and theirs for the same numbers.
Names = dict[str, str]


def _names(num_self_attends: int, num_bands: int | None) -> Names:
  """Returns the names of tensors that differ by a transposition at most."""

  def layer(ours: str, theirs: str, is_linear: bool = True) -> Names:
    w, b = ('w', 'b') if is_linear else ('scale', 'offset')
    return {f'{ours}/{w}': f'{theirs}.weight', f'{ours}/{b}': f'{theirs}.bias'}

  def block(ours: str, theirs: str, is_cross: bool) -> Names:
    attention = f'{theirs}.attention.self'
    first = 'latent_norm' if is_cross else 'layer_norm'
    names = layer(f'{ours}/{first}', f'{attention}.layernorm1', False)
    if is_cross:
      names |= layer(f'{ours}/input_norm', f'{attention}.layernorm2', False)
    for name in ('query', 'key', 'value'):
      names |= layer(f'{ours}/{name}', f'{attention}.{name}')
    names |= layer(f'{ours}/output', f'{theirs}.attention.output.dense')
    dense = f'{ours}/dense_block'
    names |= layer(f'{dense}/layer_norm', f'{theirs}.layernorm', False)
    for i in (0, 1):
      names |= layer(f'{dense}/linear_{i}', f'{theirs}.mlp.dense{i + 1}')
    return names

  decoder = 'perceiver.decoder.decoder'
  names = {
    'perceiver/latents': 'perceiver.embeddings.latents',
    'perceiver/decoder/query': f'{decoder}.output_position_encodings'
    '.position_embeddings',
    **layer('perceiver/head', f'{decoder}.final_layer'),
    **block(
      'perceiver/~/cross_attend_0', 'perceiver.encoder.cross_attention', True
    ),
    **block(
      'perceiver/decoder/cross_attend',
      f'{decoder}.decoding_cross_attention',
      True,
    ),
  }
  for i in range(num_self_attends):
    names |= block(
      f'perceiver/~/latent_transformer_0/self_attend_{i}',
      f'perceiver.encoder.self_attends.{i}',
      False,
    )
  if num_bands is None:
    names |= layer('projection', 'perceiver.input_preprocessor.convnet_1x1')
  return names


def convert(
  folder: PathLike,
  tensors: Mapping[str, np.ndarray],
  *,
  num_self_attends: int,
  num_bands: int | None,
  image_size: int,
) -> tuple[dict[str, np.ndarray], Names]:
  """Returns our tensors by name, and the names of those they are made from.

  Args:
    folder: the folder of the tensors, for errors.
    tensors: transformers' tensors, by name.
    num_self_attends: number of self-attends in the latent Transformer.
    num_bands: number of Fourier bands; None: positions are learned.
    image_size: the side of the image that learned positions are for.

  Raises:
    WeightsError: if tensors are missing or unknown, or cannot be converted.
  """
  names = _names(num_self_attends, num_bands)
  remaining = dict(tensors)
  where = f'{folder}/{weight_files.TENSORS}'

  def take(name: str, num_axes: int | None = None) -> np.ndarray:
    if name not in remaining:
      raise WeightsError(f'{where} does not fit its config: missing [{name}].')
    tensor = remaining.pop(name)
    if num_axes is not None and tensor.ndim != num_axes:
      raise WeightsError(f'{where}: {name!r} has the shape {tensor.shape}.')
    return tensor

  ours = {}
  for name, theirs in names.items():
    if name == 'projection/w':  # A convolution of 1 x 1.
      tensor = take(theirs, num_axes=4)
      if tensor.shape[2:] != (1, 1):
        raise WeightsError(f'{where}: {theirs!r} has the shape {tensor.shape}.')
      ours[name] = tensor[..., 0, 0].T
    else:
      tensor = take(theirs)
      ours[name] = tensor.T if name.endswith('/w') else tensor
  if num_bands is not None:
    order = _channel_order(num_bands)
    first = 'perceiver/~/cross_attend_0'
    for name in ('input_norm/scale', 'input_norm/offset', 'key/w', 'value/w'):
      tensor = ours[f'{first}/{name}']
      if tensor.shape[:1] == order.shape:  # Others are refused later.
        ours[f'{first}/{name}'] = tensor[order]
  else:
    prefix = 'perceiver.input_preprocessor'
    learned = f'{prefix}.position_embeddings.position_embeddings'
    table = take(learned, num_axes=2)
    weight = take(f'{prefix}.positions_projection.weight', num_axes=2)
    bias = take(f'{prefix}.positions_projection.bias', num_axes=1)
    # The projection of a learned table is a learned table.
    try:
      table = (table.astype(np.float64) @ weight.T.astype(np.float64)) + bias
      table = table.reshape(1, image_size, image_size, -1).astype(np.float32)
    except ValueError as error:
      raise WeightsError(
        f'{where}: the learned positions do not fit image_size={image_size}:'
        f' {error}'
      ) from error
    names['learned_positions/positions'] = learned
    ours['learned_positions/positions'] = table
  if remaining:
    raise WeightsError(
      f'{where} does not fit its config: unknown [{", ".join(remaining)}].'
    )
  return ours, names


def _channel_order(num_bands: int) -> np.ndarray:
  """Returns where each of our channels is among theirs: [C].

  Theirs are the pixel, y, x, the sines of y and of x, the cosines of y and of
  x. Ours are the pixel, then y's sines, cosines and y itself, then x's.
  """
  pixel, position, sines = np.arange(3), 3, 5
  cosines = sines + 2 * num_bands
  axes = [
    np.concatenate(
      [
        sines + axis * num_bands + np.arange(num_bands),
        cosines + axis * num_bands + np.arange(num_bands),
        [position + axis],
      ]
    )
    for axis in (0, 1)
  ]
  return np.concatenate([pixel, *axes])
