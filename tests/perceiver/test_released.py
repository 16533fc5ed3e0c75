"""The authors' released files, and transformers' folders of the same models.

The small files are from `make_released_fixtures`, the folders from
`make_transformers_fixtures`.
"""

import json
import re

import numpy as np
import pytest
import safetensors.numpy

import perceiver
from perceiver import exports
from perceiver.importers import pystate, released
from perceiver.weight_files import WeightsError
from tests import quick
from tests.perceiver import make_released_fixtures as fixtures
from tests.perceiver import perceiver_io_reference as reference
from tests.perceiver import reference as layers
from tests.perceiver.small_models import TRANSFORMERS

# Of the largest logit. Measured 8e-7, and 9e-6 for transformers' own logits.
TOLERANCE = 1e-5
KINDS = ('fourier', 'learned', 'conv')
# Two sizes of images each, where others than in training are possible.
GRIDS = {
  'fourier': ((9, 13), (16, 16)),
  'learned': ((9, 9),),
  'conv': ((30, 25), (17, 32)),
}


def path_of(kind):
  return fixtures.FOLDER / f'imagenet_{kind}.pystate'


def images(grid):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, size=(2, *grid, 3)).astype(np.uint8)


def difference(logits, expected):
  return np.abs(logits - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize('kind', quick.only(['learned', 'conv'], KINDS))
def test_logits_are_as_the_authors_code_computes_them(kind):
  arrays = pystate.read(path_of(kind))
  model = perceiver.from_pretrained(path_of(kind))
  residual = kind != 'learned'
  for grid in GRIDS[kind]:
    pixels = reference.normalized(images(grid))
    expected, other = (
      reference.logits(arrays, pixels, residual=x)
      for x in (residual, not residual)
    )
    logits = model(images(grid))
    assert difference(logits, expected) <= TOLERANCE
    assert difference(logits, other) > 0.01


TABLE, HERE = 'trainable_position_encoding/pos_embs', '~_build_network_inputs'
# Parts of transformers' names, and those of the authors' names in their place.
NAMES = {
  r'\.': '/',
  '^perceiver/': '',
  'embeddings/latents': f'encoder/~/{TABLE}',
  'output_position_encodings/position_embeddings': f'~/{TABLE}',
  'position_embeddings/position_embeddings': f'{HERE}/{TABLE}',
  'positions_projection': f'{HERE}/position_encoding_projector/linear',
  'convnet_1x1': '~/conv2_d',
  'convnet/(conv|batchnorm)': r'~/conv2_d_downsample/~/\1',
  'running_(mean|var)': r'~/\1_ema/average',
  'decoder/decoder/': 'classification_decoder/~/basic_decoder/',
  'decoding_cross': 'cross',
  'final_layer': 'output',
  '^encoder/(~/)?': 'perceiver_encoder/~/',
  'input_preprocessor': 'image_preprocessor',
  'self_attends/0/': 'self_attention/',
  'self_attends/': 'self_attention_',
  'attention/self/layernorm1': 'layer_norm',
  'attention/self/layernorm2': 'layer_norm_1',
  'attention/self/query': 'attention/linear',
  'attention/self/key': 'attention/linear_1',
  'attention/self/value': 'attention/linear_2',
  'attention/output/dense': 'attention/linear_3',
  'cross_attention/layernorm': 'cross_attention/layer_norm_2',
  'layernorm': 'layer_norm_1',
  'mlp/dense1': 'mlp/linear',
  'mlp/dense2': 'mlp/linear_1',
  r'norm(\w*)/weight$': r'norm\1/scale',
  r'norm(\w*)/bias$': r'norm\1/offset',
  '/weight$': '/w',
  '/bias$': '/b',
}


def arrays_of_transformers(folder):
  """Returns a folder's arrays as the authors would have named and laid them."""
  arrays = {}
  tensors = safetensors.numpy.load_file(folder / 'model.safetensors')
  for name, tensor in tensors.items():
    for pattern, replacement in NAMES.items():
      name = re.sub(pattern, replacement, name)
    if name.endswith('/w'):
      tensor = tensor.T if tensor.ndim == 2 else tensor.transpose(2, 3, 1, 0)
    elif 'batchnorm' in name and tensor.ndim:
      tensor = tensor[None, None, None]
    arrays[name] = tensor
  return arrays


@pytest.mark.parametrize('kind', quick.only(['learned', 'conv'], KINDS))
def test_logits_of_a_folder_are_as_transformers_computes_them(kind):
  folder = TRANSFORMERS / kind
  sizes = json.loads((folder / 'config.json').read_text())
  expected = np.load(folder / 'expected.npz')
  model = perceiver.from_pretrained(folder)
  arrays = arrays_of_transformers(folder)
  for name in expected:
    if name.startswith('pixel_values'):
      pixels = expected[name].transpose(0, 2, 3, 1)
      logits = reference.logits(
        arrays,
        pixels,
        residual=True,
        padding='transformers',
        heads=sizes['num_self_attention_heads'],
        blocks=sizes['num_blocks'],
      )
      assert difference(model(pixels, normalized=True), logits) <= TOLERANCE
      theirs = expected[name.replace('pixel_values', 'tanh')]
      assert difference(theirs, logits) <= TOLERANCE


def test_batch_norm_is_part_of_the_convolution():
  arrays = pystate.read(path_of('conv'))
  _, tensors = exports.read(path_of('conv'))
  (pixels, _) = reference.normalized(images((20, 20)))
  padding = layers.same_padding(pixels, 7, 2)
  kernel = np.float64(arrays[f'{fixtures.CONV}/conv/w'])
  features = layers.convolve(pixels, kernel, padding)
  expected = reference.batch_norm(arrays, features)
  kernel, bias = (np.float64(tensors[f'convolution/{x}']) for x in 'wb')
  # The folded numbers are rounded to float32 once.
  assert (
    difference(layers.convolve(pixels, kernel, padding) + bias, expected) < 1e-6
  )
  assert difference(features, expected) > 0.1
  # Height and width of the kernel are not the same.
  swapped = layers.convolve(pixels, kernel.swapaxes(0, 1), padding) + bias
  assert difference(swapped, expected) > 0.1


@pytest.mark.parametrize('kind', quick.only(['learned'], KINDS))
def test_an_export_has_the_same_logits(tmp_path, kind):
  config, tensors = exports.read(path_of(kind))
  assert config['model']['query_residual'] == (kind != 'learned')
  assert config['classes'] == [f'LABEL_{i}' for i in range(5)]
  exports.write(tmp_path / kind, config, tensors)
  raw = images(GRIDS[kind][0])
  np.testing.assert_array_equal(
    perceiver.from_pretrained(tmp_path / kind)(raw),
    perceiver.from_pretrained(path_of(kind))(raw),
  )


def test_a_thousand_classes_are_imagenets():
  params, _ = fixtures.draw('learned', 0, num_classes=1000)
  config, *_ = released.convert('there', params)
  assert len(set(config['classes'])) == 1000
  assert config['classes'][0] == 'tench'
  assert config['classes'][-1] == 'toilet tissue'


def test_an_export_from_before_there_was_a_setting_has_the_residual(tmp_path):
  config, tensors = exports.read(TRANSFORMERS / 'learned')
  assert 'query_residual' not in config['model']
  exports.write(tmp_path / 'with', config, tensors)
  config['model']['query_residual'] = False
  exports.write(tmp_path / 'without', config, tensors)
  has, lacks = (
    perceiver.from_pretrained(tmp_path / name)(images((10, 10)))
    for name in ('with', 'without')
  )
  assert difference(has, lacks) > 0.01


OUTPUT = f'{fixtures.DECODER}/output/b'
LATENTS = f'{fixtures.ENCODER}/trainable_position_encoding/pos_embs'
LAST = f'{fixtures.ENCODER}/self_attention_1/attention/linear_3/w'
KEY = f'{fixtures.ENCODER}/cross_attention/attention/linear_1/w'
MLP = f'{fixtures.ENCODER}/self_attention/mlp/linear/w'
TABLE_HERE = f'{fixtures.POSITION}/{TABLE}'
PIXELS = f'{fixtures.IMAGE}/conv2_d/w'
MEAN = f'{fixtures.CONV}/batchnorm/~/mean_ema/average'
KERNEL = f'{fixtures.CONV}/conv/w'
SCALE = f'{fixtures.CONV}/batchnorm/scale'


@pytest.mark.parametrize(
  ('kind', 'name', 'shape', 'message'),
  [
    ('fourier', OUTPUT, None, rf'none of the three .*missing \[{OUTPUT}\]'),
    ('fourier', LAST, None, rf'missing \[{LAST}\]'),
    ('conv', KERNEL, None, rf'missing \[{KERNEL}\]'),
    ('conv', MEAN, None, rf'missing \[{MEAN}\]'),
    ('learned', PIXELS, None, rf'missing \[{PIXELS}\]'),
    ('fourier', 'adam/count', (), r'unknown \[adam/count\]'),
    # A mixture of two models.
    ('fourier', TABLE_HERE, (81, 7), rf'unknown \[{TABLE_HERE}\]'),
    ('fourier', LATENTS, (6, 16, 1), rf'{LATENTS}.*has the shape'),
    (
      'fourier',
      LATENTS,
      (6, 20),
      '20 are not divisible by self_attend_heads=8',
    ),
    ('fourier', KEY, (260, 12), rf'{KEY}.*gives the shape \(260, 12\)'),
    ('fourier', MLP, (16, 33), rf'{MLP}.*gives the shape \(16, 33\)'),
    ('fourier', f'{LAST}/x', (3,), rf'unknown \[{LAST}/x\]'),
    ('learned', TABLE_HERE, (80, 7), f'{TABLE_HERE}.*do not fit image_size=8'),
    (
      'learned',
      PIXELS,
      (2, 1, 3, 4),
      rf'{PIXELS}.*has the shape \(2, 1, 3, 4\)',
    ),
    ('conv', SCALE, (1, 1, 1, 3), rf'{SCALE}.*has the shape \(1, 1, 1, 3\)'),
  ],
)
def test_an_array_that_does_not_fit_is_named_as_in_the_file(
  tmp_path, kind, name, shape, message
):
  params, state = fixtures.draw(kind, 0)
  section = state if name in state else params
  if shape is None:
    del section[name]
  else:
    section[name] = np.ones(shape, np.float32)
  path = tmp_path / 'weights.pystate'
  path.write_bytes(fixtures.dumps(params, state))
  with pytest.raises(WeightsError, match=message) as caught:
    exports.read(path)
  assert str(caught.value).startswith(str(path))
  assert '\n' not in str(caught.value)
