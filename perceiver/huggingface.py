"""Weights of transformers' Perceivers for images, the authors' own among them.

They are Perceiver IO's (arXiv 2107.14795): one cross-attend, the same latent
Transformer again and again, a learned query at the end. Two classes are known,
by what they add to the pixels:

- PerceiverForImageClassificationFourier: Fourier features;
- PerceiverForImageClassificationLearned: a linear layer for the pixels, and
  learned positions.

GELU is computed in its tanh form, which the authors' code has. transformers'
'gelu' is the exact one: its logits then differ in the fourth digit.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from perceiver import image_processor, modalities, weight_files
from perceiver.weight_files import PathLike, WeightsError

MODEL_TYPE = 'perceiver'
FOURIER = 'PerceiverForImageClassificationFourier'
LEARNED = 'PerceiverForImageClassificationLearned'
GELUS = (
  *('gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'gelu_accurate'),  # tanh
  *('gelu', 'gelu_python'),  # exact
)
# What the classes above have, whatever config.json says.
FOURIER_SIZE, FOURIER_BANDS = 224, 64
LEARNED_CHANNELS = 256
# What config.json leaves out is as transformers has it by default.
DEFAULTS: dict[str, Any] = {
  'num_latents': 256,
  'd_latents': 1280,
  'num_blocks': 1,
  'num_self_attends_per_block': 26,
  'num_self_attention_heads': 8,
  'num_cross_attention_heads': 8,
  'qk_channels': None,
  'v_channels': None,
  'cross_attention_shape_for_attention': 'kv',
  'self_attention_widening_factor': 1,
  'cross_attention_widening_factor': 1,
  'hidden_act': 'gelu',
  'use_query_residual': True,
  'image_size': 56,
  'problem_type': None,
  'id2label': None,
  'num_labels': None,
}
MAX_LABELS = 1 << 20  # A lying file is to take no more.
# How an example's labels are scored, by `problem_type`; others are refused.
SCORES = {
  None: 'softmax',
  'single_label_classification': 'softmax',
  'multi_label_classification': 'sigmoid',
}
# Ours: theirs, where the two have the same numbers in it.
Names = dict[str, str]
Convert = Callable[
  [Mapping[str, np.ndarray]], tuple[dict[str, np.ndarray], Names]
]


@dataclasses.dataclass(frozen=True)
class _Settings:
  """What matters of a config.json."""

  values: Mapping[str, Any]
  is_fourier: bool

  def __getitem__(self, key: str) -> Any:
    return self.values.get(key, DEFAULTS[key])


def read_config(
  folder: PathLike, config: Mapping[str, Any]
) -> tuple[dict[str, Any], Convert]:
  """Says a model of transformers in our words.

  Args:
    folder: where it is; its preprocessor_config.json tells how pixels are
      normalised.
    config: its config.json.

  Returns:
    The config as of `perceiver.exports`, and what converts the tensors.

  Raises:
    WeightsError: for other models, and for settings that ours have not.
  """
  where = f'{folder}/{weight_files.CONFIG}'
  architectures = config.get('architectures')
  if architectures not in ([FOURIER], [LEARNED]):
    raise WeightsError(
      f'{where}: architectures={architectures!r}; known are {FOURIER} and'
      f' {LEARNED}, not the convolutional one nor other tasks.'
    )
  settings = _Settings(config, is_fourier=architectures == [FOURIER])
  refused = {
    'hidden_act': settings['hidden_act'] in GELUS,
    'use_query_residual': settings['use_query_residual'] is True,
    # Of self-attends, whose channels are the latents' here.
    'qk_channels': settings['qk_channels'] in (None, settings['d_latents']),
    'v_channels': settings['v_channels'] in (None, settings['d_latents']),
    'cross_attention_shape_for_attention': settings[
      'cross_attention_shape_for_attention'
    ]
    in ('kv', 'q'),
    'problem_type': settings['problem_type'] in SCORES,
    'image_size': type(settings['image_size']) is int,
  }
  for key, is_known in refused.items():
    if not is_known:
      raise WeightsError(f'{where}: {key}={settings[key]!r} is not supported.')
  image = _image(folder, settings)
  input_channels = (
    3 + 2 * (2 * FOURIER_BANDS + 1)
    if settings.is_fourier
    else 2 * LEARNED_CHANNELS
  )
  by_keys = settings['cross_attention_shape_for_attention'] == 'kv'
  channels = settings['qk_channels'] or (
    input_channels if by_keys else settings['d_latents']
  )
  if settings['v_channels'] not in (None, channels):
    raise WeightsError(
      f'{where}: v_channels={settings["v_channels"]}, but queries and keys of'
      f' the cross-attend have {channels} channels: others are not supported.'
    )
  classes = _classes(where, settings)
  model = {
    'num_classes': len(classes),
    'num_latents': settings['num_latents'],
    'latent_channels': settings['d_latents'],
    'num_cross_attends': 1,
    'num_latent_transformers': settings['num_blocks'],
    'num_self_attends': settings['num_self_attends_per_block'],
    'cross_attend_heads': settings['num_cross_attention_heads'],
    'cross_attend_channels': channels,
    'self_attend_heads': settings['num_self_attention_heads'],
    'widening_factor': settings['self_attention_widening_factor'],
    'cross_attend_widening_factor': settings['cross_attention_widening_factor'],
    'head': 'query',
  }
  ours = {
    'model': model,
    'input': {'image': modalities.to_json(image)},
    'classes': classes,
    'scores': SCORES[settings['problem_type']],
  }

  def convert(
    tensors: Mapping[str, np.ndarray],
  ) -> tuple[dict[str, np.ndarray], Names]:
    found, names = _convert(folder, tensors, settings)
    is_single = np.shape(found['perceiver/head/b']) == (1,) == (len(classes),)
    if is_single and ours['scores'] == 'softmax':
      raise WeightsError(
        f'{where}: a single label with'
        f' problem_type={settings["problem_type"]!r} is a regression, which is'
        ' not supported.'
      )
    return found, names

  return ours, convert


def _classes(where: str, settings: _Settings) -> list[str]:
  """The names of the labels, as transformers makes them where there are none.

  Raises:
    WeightsError: for labels without an order, or another number of them.
  """
  labels, count = settings['id2label'], settings['num_labels']
  if labels is None:
    count = 2 if count is None else count
    if type(count) is not int or not 0 < count <= MAX_LABELS:
      raise WeightsError(f'{where}: num_labels={count!r} is not supported.')
    labels = {str(i): f'LABEL_{i}' for i in range(count)}
  if not isinstance(labels, dict):
    raise WeightsError(f'{where}: id2label={labels!r} is not supported.')
  if count not in (None, len(labels)):
    raise WeightsError(
      f'{where}: num_labels={count!r}, but id2label has {len(labels)}.'
    )
  try:
    return [str(labels[str(i)]) for i in range(len(labels))]
  except KeyError as error:
    raise WeightsError(f'{where}: id2label lacks {error}.') from error


def _image(folder: PathLike, settings: _Settings) -> modalities.Image:
  """The input, normalised as preprocessor_config.json says, or by default."""
  size = FOURIER_SIZE if settings.is_fourier else settings['image_size']
  positions: dict[str, Any] = (
    {'num_bands': FOURIER_BANDS, 'max_resolution': float(FOURIER_SIZE)}
    if settings.is_fourier
    else {
      'num_bands': 1,
      'positions': 'learned',
      'position_channels': LEARNED_CHANNELS,
      'projection': LEARNED_CHANNELS,
    }
  )
  normalization = image_processor.read(folder)
  try:
    return modalities.Image(
      height=size, width=size, channels=3, **normalization, **positions
    )
  except (TypeError, ValueError) as error:
    where = f'{folder}/{image_processor.FILE}'
    raise WeightsError(f'{where}: {error}') from error


def _names(settings: _Settings) -> Names:
  """The tensors that have the same numbers, if linear layers' transposed."""

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
  for i in range(settings['num_self_attends_per_block']):
    names |= block(
      f'perceiver/~/latent_transformer_0/self_attend_{i}',
      f'perceiver.encoder.self_attends.{i}',
      False,
    )
  if not settings.is_fourier:
    names |= layer('projection', 'perceiver.input_preprocessor.convnet_1x1')
  return names


def _convert(
  folder: PathLike, tensors: Mapping[str, np.ndarray], settings: _Settings
) -> tuple[dict[str, np.ndarray], Names]:
  """Ours by name, and what they are made from.

  Raises:
    WeightsError: if tensors are missing or unknown, or cannot be converted.
  """
  names = _names(settings)
  remaining = dict(tensors)
  where = f'{folder}/{weight_files.TENSORS}'

  def take(name: str, num_axes: int | None = None) -> np.ndarray:
    if name not in remaining:
      raise WeightsError(f'{where} does not fit its config: missing [{name}].')
    tensor = remaining.pop(name)
    if num_axes is not None and tensor.ndim != num_axes:
      raise WeightsError(f'{where}: {name!r} is of shape {tensor.shape}.')
    return tensor

  ours = {}
  for name, theirs in names.items():
    if name == 'projection/w':  # A convolution of 1 x 1.
      tensor = take(theirs, num_axes=4)
      if tensor.shape[2:] != (1, 1):
        raise WeightsError(f'{where}: {theirs!r} is of shape {tensor.shape}.')
      ours[name] = tensor[..., 0, 0].T
    else:
      tensor = take(theirs)
      ours[name] = tensor.T if name.endswith('/w') else tensor
  if settings.is_fourier:
    order = _channel_order()
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
    size = settings['image_size']
    # The projection of a learned table is a learned table.
    try:
      table = (table.astype(np.float64) @ weight.T.astype(np.float64)) + bias
      table = table.reshape(1, size, size, -1).astype(np.float32)
    except ValueError as error:
      raise WeightsError(
        f'{where}: the learned positions do not fit image_size={size}: {error}'
      ) from error
    names['learned_positions/positions'] = learned
    ours['learned_positions/positions'] = table
  if remaining:
    raise WeightsError(
      f'{where} does not fit its config: unknown [{", ".join(remaining)}].'
    )
  return ours, names


def _channel_order() -> np.ndarray:
  """Where each of our channels is among theirs: [C].

  Theirs are the pixel, y, x, the sines of y and of x, the cosines of y and of
  x. Ours are the pixel, then y's sines, cosines and y itself, then x's.
  """
  k = FOURIER_BANDS
  pixel, position, sines = np.arange(3), 3, 5
  cosines = sines + 2 * k
  axes = [
    np.concatenate(
      [
        sines + axis * k + np.arange(k),
        cosines + axis * k + np.arange(k),
        [position + axis],
      ]
    )
    for axis in (0, 1)
  ]
  return np.concatenate([pixel, *axes])
