"""Reads transformers' Perceivers for images, such as the authors' own weights.

They are Perceiver IO models (arXiv 2107.14795): one cross-attend, the same
latent Transformer repeated, a learned query at the end. Three classes are
known, by what becomes of the pixels:

- PerceiverForImageClassificationFourier: they get Fourier features;
- PerceiverForImageClassificationLearned: they pass a linear layer, and get
  learned positions;
- PerceiverForImageClassificationConvProcessing: they pass a convolution and a
  max pool, whose results get Fourier features.

GELU is computed in its tanh form, as in the authors' code. transformers' 'gelu'
is the exact one: its logits then differ in the fourth digit.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perceiver import modalities, weight_files
from perceiver.importers import image_processor, perceiver_io
from perceiver.importers.perceiver_io import CONV, FOURIER, LEARNED, Names
from perceiver.weight_files import PathLike, WeightsError

MODEL_TYPE = 'perceiver'
KINDS = {
  'PerceiverForImageClassificationFourier': FOURIER,
  'PerceiverForImageClassificationLearned': LEARNED,
  'PerceiverForImageClassificationConvProcessing': CONV,
}
GELUS = (
  *('gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'gelu_accurate'),  # tanh
  *('gelu', 'gelu_python'),  # exact
)
# Channels of the pixels when they get their positions, and of learned ones:
# fixed in the classes above, whatever config.json says.
CHANNELS = {FOURIER: 3, LEARNED: 256, CONV: 64}
LEARNED_CHANNELS = 256
SHAPE_KEY = 'cross_attention_shape_for_attention'
# transformers' defaults for keys that config.json leaves out.
DEFAULTS: dict[str, Any] = {
  'num_latents': 256,
  'd_latents': 1280,
  'num_blocks': 1,
  'num_self_attends_per_block': 26,
  'num_self_attention_heads': 8,
  'num_cross_attention_heads': 8,
  'qk_channels': None,
  'v_channels': None,
  SHAPE_KEY: 'kv',
  'self_attention_widening_factor': 1,
  'cross_attention_widening_factor': 1,
  'hidden_act': 'gelu',
  'use_query_residual': True,
  'image_size': 56,
  'problem_type': None,
  'id2label': None,
  'num_labels': None,
}
MAX_LABELS = 1 << 20  # More could take all memory.
_ATTENTION = tuple(f'attention.self.{x}' for x in ('query', 'key', 'value'))
_ATTENTION += ('attention.output.dense',)
_MLP = ('layernorm', 'mlp.dense1', 'mlp.dense2')
_NORMS = tuple(f'attention.self.layernorm{i}' for i in (1, 2))
_INPUT, _DECODER = 'perceiver.input_preprocessor', 'perceiver.decoder.decoder'
_BATCH_NORM = f'{_INPUT}.convnet.batchnorm'
FORM = perceiver_io.Format(
  separator='.',
  leaves={'w': 'weight', 'b': 'bias', 'scale': 'weight', 'offset': 'bias'},
  latents='perceiver.embeddings.latents',
  query=f'{_DECODER}.output_position_encodings.position_embeddings',
  head=f'{_DECODER}.final_layer',
  cross_attend='perceiver.encoder.cross_attention',
  decoder=f'{_DECODER}.decoding_cross_attention',
  self_attend=lambda i: f'perceiver.encoder.self_attends.{i}',
  cross_attend_layers=(*_NORMS, *_ATTENTION, *_MLP),
  self_attend_layers=(_NORMS[0], *_ATTENTION, *_MLP),
  pixels=f'{_INPUT}.convnet_1x1',
  positions=f'{_INPUT}.position_embeddings.position_embeddings',
  positions_projection=f'{_INPUT}.positions_projection',
  convolution=f'{_INPUT}.convnet.conv',
  batch_norm=_BATCH_NORM,
  batch_norm_statistics=('running_mean', 'running_var'),
  ignored=(f'{_BATCH_NORM}.num_batches_tracked',),
  is_transposed=True,
)
# How labels are scored, by `problem_type`; other types are refused.
SCORES = {
  None: 'softmax',  # A single label is a regression.
  'single_label_classification': 'softmax',
  'multi_label_classification': 'sigmoid',
  'regression': 'none',
}
Convert = Callable[
  [Mapping[str, np.ndarray]], tuple[dict[str, np.ndarray], Names]
]


def read_config(
  folder: PathLike, config: Mapping[str, Any]
) -> tuple[dict[str, Any], Convert]:
  """Converts the config of a model of transformers to ours.

  Args:
    folder: the model's folder, whose preprocessor_config.json tells how pixels
      are normalised.
    config: the content of its config.json.

  Returns:
    The config as in `perceiver.exports`, and a function that converts tensors.

  Raises:
    WeightsError: if the model or one of its settings is not supported.
  """
  where = f'{folder}/{weight_files.CONFIG}'
  architectures = config.get('architectures')
  if architectures not in [[name] for name in KINDS]:
    raise WeightsError(
      f'{where}: architectures={architectures!r}; known are'
      f' {", ".join(KINDS)}, not those of other tasks.'
    )
  kind = KINDS[architectures[0]]
  settings = DEFAULTS | dict(config)
  refused = {
    'hidden_act': settings['hidden_act'] in GELUS,
    'use_query_residual': settings['use_query_residual'] is True,
    # Ours have the latents' channels in self-attends.
    'qk_channels': settings['qk_channels'] in (None, settings['d_latents']),
    'v_channels': settings['v_channels'] in (None, settings['d_latents']),
    SHAPE_KEY: settings[SHAPE_KEY] in ('kv', 'q'),
    'problem_type': settings['problem_type'] in tuple(SCORES),
    'image_size': type(settings['image_size']) is int,
  }
  for key, is_known in refused.items():
    if not is_known:
      raise WeightsError(f'{where}: {key}={settings[key]!r} is not supported.')
  image = _image(folder, kind, settings['image_size'])
  position_channels = (
    LEARNED_CHANNELS if kind == LEARNED else perceiver_io.POSITION_CHANNELS
  )
  channels = settings['qk_channels'] or (
    CHANNELS[kind] + position_channels
    if settings[SHAPE_KEY] == 'kv'
    else settings['d_latents']
  )
  if settings['v_channels'] not in (None, channels):
    raise WeightsError(
      f'{where}: v_channels={settings["v_channels"]}, but queries and keys of'
      f' the cross-attend have {channels} channels: others are not supported.'
    )
  classes = _classes(where, settings)
  problem_type = settings['problem_type']
  if len(classes) == 1 and problem_type is None:
    problem_type = 'regression'
  model = {
    **perceiver_io.MODEL,
    'num_classes': len(classes),
    'num_latents': settings['num_latents'],
    'latent_channels': settings['d_latents'],
    'num_latent_transformers': settings['num_blocks'],
    'num_self_attends': settings['num_self_attends_per_block'],
    'cross_attend_heads': settings['num_cross_attention_heads'],
    'cross_attend_channels': channels,
    'self_attend_heads': settings['num_self_attention_heads'],
    'widening_factor': settings['self_attention_widening_factor'],
    'cross_attend_widening_factor': settings['cross_attention_widening_factor'],
  }
  ours = {
    'model': model,
    'input': {'image': modalities.to_json(image)},
    'classes': classes,
    'scores': SCORES[problem_type],
  }

  def convert(
    tensors: Mapping[str, np.ndarray],
  ) -> tuple[dict[str, np.ndarray], Names]:
    return perceiver_io.convert(
      f'{folder}/{weight_files.TENSORS}',
      tensors,
      FORM,
      kind,
      num_self_attends=settings['num_self_attends_per_block'],
      image_size=settings['image_size'],
    )

  return ours, convert


def _classes(where: str, settings: Mapping[str, Any]) -> list[str]:
  """Returns the labels' names, or those that transformers makes up.

  Raises:
    WeightsError: if labels are not numbered, or their number is another.
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


def _image(folder: PathLike, kind: str, size: int) -> modalities.Modality:
  """Returns the input, normalised as preprocessor_config.json says."""
  normalization = image_processor.read(folder)
  try:
    return perceiver_io.image(
      kind,
      size=size,
      channels=CHANNELS[kind],
      position_channels=LEARNED_CHANNELS,
      normalization=normalization,
      padding='transformers',
    )
  except (TypeError, ValueError) as error:
    where = f'{folder}/{image_processor.FILE}'
    raise WeightsError(f'{where}: {error}') from error
