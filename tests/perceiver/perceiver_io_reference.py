"""The authors' three models for ImageNet in float64 NumPy.

Independent of the library: parameters have their names in the authors' files.

Glossary of shapes: M inputs, C input channels, N latents, D latent channels.
"""

import math

import numpy as np

from tests.perceiver import reference

BLOCKS, HEADS, BANDS = 8, 8, 64
MEAN = np.array([0.485, 0.456, 0.406]) * 255
STDDEV = np.array([0.229, 0.224, 0.225]) * 255
ENCODER = 'perceiver_encoder/~'
DECODER = 'classification_decoder/~/basic_decoder'
IMAGE = 'image_preprocessor/~'
POSITIONS = 'image_preprocessor/~_build_network_inputs'
CONV = f'{IMAGE}/conv2_d_downsample/~'
# The layers of an attention block, by the names in `reference.block`.
LAYERS = {
  'query': 'attention/linear',
  'key': 'attention/linear_1',
  'value': 'attention/linear_2',
  'output': 'attention/linear_3',
  'dense_block/linear_0': 'mlp/linear',
  'dense_block/linear_1': 'mlp/linear_1',
}


def normalized(images):
  return (images - MEAN) / STDDEV


def layer(arrays, path):
  """Returns the parameters of a module by their names."""
  return {
    name.rpartition('/')[2]: np.float64(x)
    for name, x in arrays.items()
    if name.rpartition('/')[0] == path
  }


def block(arrays, path, z, inputs=None, heads=1, residual=True):
  """Attends to the inputs [M, C] or, without them, to z [N, D] itself."""
  params = {ours: layer(arrays, f'{path}/{x}') for ours, x in LAYERS.items()}
  norm = lambda x, i: reference.layer_norm(
    x, layer(arrays, f'{path}/layer_norm' + (f'_{i}' if i else ''))
  )
  queries = norm(z, 0)
  keys = queries if inputs is None else norm(inputs, 1)
  last = 'layer_norm_1' if inputs is None else 'layer_norm_2'
  params['dense_block/layer_norm'] = layer(arrays, f'{path}/{last}')
  mask = np.ones(len(keys))
  return reference.block(z, queries, keys, params, heads, mask, residual)


def fourier(height, width, resolution):
  """Returns [height, width, 4K + 2] features: y, x, all sines, all cosines."""
  y, x = np.moveaxis(reference.grid(height, width), -1, 0)
  bands = np.linspace(1, resolution / 2, BANDS)
  angles = [math.pi * band * axis for axis in (y, x) for band in bands]
  features = [y, x, *np.sin(angles), *np.cos(angles)]
  return np.stack(features, axis=-1)


def batch_norm(arrays, x):
  params = layer(arrays, f'{CONV}/batchnorm')
  mean, variance = (
    layer(arrays, f'{CONV}/batchnorm/~/{moment}_ema')['average']
    for moment in ('mean', 'var')
  )
  normed = (x - mean) / np.sqrt(variance + 1e-5)
  return (normed * params['scale'] + params['offset'])[0]


def image(arrays, x, padding='same'):
  """Returns the encoder's input [M, C] of normalised pixels [H, W, 3]."""
  if f'{CONV}/conv/w' in arrays:
    is_same = padding == 'same'
    around = reference.same_padding(x, 7, 2) if is_same else [(3, 3)] * 2
    x = reference.convolve(x, layer(arrays, f'{CONV}/conv')['w'], around)
    x = np.maximum(batch_norm(arrays, x), 0)
    around = reference.same_padding(x, 3, 2) if is_same else [(0, 0)] * 2
    x = reference.max_pool(x, around)
    positions = fourier(*x.shape[:2], 56)
  elif f'{IMAGE}/conv2_d/w' in arrays:
    convolution = layer(arrays, f'{IMAGE}/conv2_d')
    x = x @ convolution['w'][0, 0] + convolution['b']
    table = layer(arrays, f'{POSITIONS}/trainable_position_encoding')
    projection = layer(
      arrays, f'{POSITIONS}/position_encoding_projector/linear'
    )
    positions = reference.linear(table['pos_embs'], projection)
  else:
    positions = fourier(*x.shape[:2], 224)
  channels = positions.shape[-1]
  return np.concatenate(
    [x.reshape(-1, x.shape[-1]), positions.reshape(-1, channels)], axis=-1
  )


def logits(
  arrays,
  images,
  *,
  residual,
  padding='same',
  heads=HEADS,
  blocks=BLOCKS,
):
  """Returns [B, classes].

  Args:
    arrays: by 'module/name'.
    images: normalised pixels, [B, H, W, 3].
    residual: whether the decoder's query is added to what it finds.
    padding: 'same' as TensorFlow's, or 'transformers'.
    heads: of self-attends.
    blocks: number of latent Transformers.
  """
  found = []
  for pixels in images:
    x = image(arrays, np.float64(pixels), padding)
    z = layer(arrays, f'{ENCODER}/trainable_position_encoding')['pos_embs']
    z = block(arrays, f'{ENCODER}/cross_attention', z, x)
    for _ in range(blocks):
      for i in range(2):
        path = f'{ENCODER}/self_attention' + (f'_{i}' if i else '')
        z = block(arrays, path, z, heads=heads)
    query = layer(arrays, f'{DECODER}/~/trainable_position_encoding')[
      'pos_embs'
    ]
    (out,) = block(
      arrays, f'{DECODER}/cross_attention', query, z, residual=residual
    )
    found.append(reference.linear(out, layer(arrays, f'{DECODER}/output')))
  return np.stack(found)
