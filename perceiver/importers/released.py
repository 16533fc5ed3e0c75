"""The weights that the authors have released, for ImageNet: `.pystate` files.

They are three Perceiver IO models (arXiv 2107.14795). A file has arrays by
their names in the authors' code, and nothing else. The names tell which model
it is, the shapes its sizes. All else is as in the authors' code: eight blocks,
eight heads in self-attends, one in cross-attends, and no residual of the
decoder's query where positions are learned.
"""

from collections.abc import Mapping
import importlib.resources
import itertools
import math
from typing import Any

import numpy as np

from perceiver import modalities
from perceiver.importers import image_processor, perceiver_io, pystate
from perceiver.importers.perceiver_io import CONV, FOURIER, LEARNED, Names
from perceiver.weight_files import PathLike, WeightsError

NUM_BLOCKS, SELF_ATTEND_HEADS, CROSS_ATTEND_HEADS = 8, 8, 1
# Each line has a wnid and a name, in the order of the labels. The names are
# lemmas of WordNet 3.0, made unambiguous where two classes have the same one or
# it is better known for something else.
CLASSES = (
  importlib.resources.files('perceiver.importers') / 'imagenet_classes.txt'
)


def _suffix(i: int) -> str:
  """Returns what Haiku appends to the name of a module's i-th instance."""
  return f'_{i}' if i else ''


_ATTENTION = tuple(f'attention/linear{_suffix(i)}' for i in range(4))
_MLP = ('mlp/linear', 'mlp/linear_1')
_DECODER = 'classification_decoder/~/basic_decoder'
_DOWNSAMPLE = 'image_preprocessor/~/conv2_d_downsample/~'
_POSITIONS = 'image_preprocessor/~_build_network_inputs'
_BATCH_NORM = f'{_DOWNSAMPLE}/batchnorm'
FORM = perceiver_io.Format(
  separator='/',
  leaves={x: x for x in ('w', 'b', 'scale', 'offset')},
  latents='perceiver_encoder/~/trainable_position_encoding/pos_embs',
  query=f'{_DECODER}/~/trainable_position_encoding/pos_embs',
  head=f'{_DECODER}/output',
  cross_attend='perceiver_encoder/~/cross_attention',
  decoder=f'{_DECODER}/cross_attention',
  self_attend=lambda i: f'perceiver_encoder/~/self_attention{_suffix(i)}',
  cross_attend_layers=(
    *('layer_norm', 'layer_norm_1', *_ATTENTION, 'layer_norm_2', *_MLP),
  ),
  self_attend_layers=('layer_norm', *_ATTENTION, 'layer_norm_1', *_MLP),
  pixels='image_preprocessor/~/conv2_d',
  positions=f'{_POSITIONS}/trainable_position_encoding/pos_embs',
  positions_projection=f'{_POSITIONS}/position_encoding_projector/linear',
  convolution=f'{_DOWNSAMPLE}/conv',
  batch_norm=_BATCH_NORM,
  batch_norm_statistics=('~/mean_ema/average', '~/var_ema/average'),
  ignored=tuple(
    f'{_BATCH_NORM}/~/{moment}_ema/{name}'
    for moment in ('mean', 'var')
    for name in ('counter', 'hidden')
  ),
  is_transposed=False,
)


def read(
  path: PathLike,
) -> tuple[dict[str, Any], dict[str, np.ndarray], Names]:
  """Reads a `.pystate` file. Nothing in it is executed.

  Returns:
    The config as in `perceiver.exports`, our tensors by name, and the names of
    those in the file that they are made from.

  Raises:
    FileNotFoundError: if there is no such file.
    WeightsError: if it is damaged, or is not one of the three models.
  """
  arrays = pystate.read(path)
  return convert(str(path), arrays)


def convert(
  where: str, arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray], Names]:
  """Converts a file's arrays, by 'module/name'; otherwise as `read`."""
  arrays = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
  kind = _kind(arrays)

  def shape(*names: str, num_axes: int) -> tuple[int, ...]:
    """Returns the shape of an array that tells sizes."""
    name = '/'.join(names)
    if name not in arrays:
      raise WeightsError(
        f'{where} is none of the three models for ImageNet: missing [{name}].'
      )
    if arrays[name].ndim != num_axes:
      raise WeightsError(
        f'{where}: {name!r} has the shape {arrays[name].shape}.'
      )
    return arrays[name].shape

  latents, channels = shape(FORM.latents, num_axes=2)
  (num_classes,) = shape(FORM.head, 'b', num_axes=1)
  attention, hidden = (
    shape(FORM.cross_attend, layer, 'w', num_axes=2)[1]
    for layer in (_ATTENTION[0], _MLP[0])
  )
  own = shape(FORM.self_attend(0), _MLP[0], 'w', num_axes=2)[1]
  num_self_attends = _count_self_attends(arrays)
  size, pixels, positions = perceiver_io.SIZE, 3, 0
  if kind == CONV:
    pixels = shape(FORM.convolution, 'w', num_axes=4)[-1]
  elif kind == LEARNED:
    size = math.isqrt(shape(FORM.positions, num_axes=2)[0])
    pixels = shape(FORM.pixels, 'b', num_axes=1)[0]
    positions = shape(FORM.positions_projection, 'b', num_axes=1)[0]
  model = {
    **perceiver_io.MODEL,
    'num_classes': num_classes,
    'num_latents': latents,
    'latent_channels': channels,
    'num_latent_transformers': NUM_BLOCKS,
    'num_self_attends': num_self_attends,
    'cross_attend_heads': CROSS_ATTEND_HEADS,
    'cross_attend_channels': attention,
    'self_attend_heads': SELF_ATTEND_HEADS,
    'widening_factor': own // channels,
    'cross_attend_widening_factor': hidden // channels,
    'query_residual': kind != LEARNED,
  }
  try:
    image = perceiver_io.image(
      kind,
      size=size,
      channels=pixels,
      position_channels=positions,
      normalization=image_processor.IMAGENET,
    )
  except ValueError as error:
    raise WeightsError(f'{where}: {error}') from error
  config = {
    'model': model,
    'input': {'image': modalities.to_json(image)},
    'classes': _classes(num_classes),
    'scores': 'softmax',
  }
  tensors, names = perceiver_io.convert(
    where,
    arrays,
    FORM,
    kind,
    num_self_attends=num_self_attends,
    image_size=size,
  )
  return config, tensors, names


def class_names() -> dict[str, str]:
  """Returns the names of ImageNet's classes by wnid, in the labels' order."""
  lines = CLASSES.read_text(encoding='utf-8').splitlines()
  return dict(line.split('\t') for line in lines)


def _kind(arrays: Mapping[str, np.ndarray]) -> str:
  """Returns which of the three models has such names."""
  has = lambda path: any(name.startswith(f'{path}/') for name in arrays)
  if has(_DOWNSAMPLE):
    return CONV
  return LEARNED if has(FORM.pixels) else FOURIER


def _count_self_attends(arrays: Mapping[str, np.ndarray]) -> int:
  layers = {'/'.join(name.split('/')[:3]) for name in arrays}
  places = itertools.count()
  return next(i for i in places if FORM.self_attend(i) not in layers)


def _classes(count: int) -> list[str]:
  known = list(class_names().values())
  if count == len(known):
    return known
  return [f'LABEL_{i}' for i in range(count)]
