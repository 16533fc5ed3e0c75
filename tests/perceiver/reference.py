"""The Perceiver's forward pass in float64 NumPy, as the paper states it.

Deliberately naive, and independent of the library: it shares nothing with it
but the names of the parameters.

Glossary of shapes: B batch, M inputs, C input channels, N latents, D latent
channels, H heads.
"""

import math
import types

import numpy as np


def layer_norm(x, params):
  mean = x.mean(axis=-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
  return (x - mean) / np.sqrt(variance + 1e-5) * params['scale'] + params[
    'offset'
  ]


def linear(x, params):
  return x @ params['w'] + params['b']


def gelu(x):
  return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(q, k, v, heads, mask):
  """Attends in one example: q [N, F], k and v [M, F], mask [M]."""
  out = np.zeros_like(q)
  width = q.shape[-1] // heads
  for h in range(heads):
    part = slice(h * width, (h + 1) * width)
    logits = q[:, part] @ k[:, part].T / math.sqrt(width)  # [N, M]
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True)) * mask
    weights /= weights.sum(axis=-1, keepdims=True)
    out[:, part] = weights @ v[:, part]
  return out


def block(latents, queries, inputs, params, heads, mask, residual=True):
  """Applies attention and dense block with their residuals to one example."""
  q = linear(queries, params['query'])
  k = linear(inputs, params['key'])
  v = linear(inputs, params['value'])
  attended = attention(q, k, v, heads, mask)
  out = linear(attended, params['output'])
  latents = latents + out if residual else out
  h = layer_norm(latents, params['dense_block/layer_norm'])
  h = gelu(linear(h, params['dense_block/linear_0']))
  return latents + linear(h, params['dense_block/linear_1'])


def under(params, prefix):
  """Returns a module's parameters by their path below it, in float64."""
  return {
    path.removeprefix(f'{prefix}/'): {
      name: np.asarray(x, np.float64) for name, x in leaves.items()
    }
    for path, leaves in params.items()
    if path.startswith(prefix)
  }


def fourier(positions, num_bands, max_resolution):
  """Maps [..., d] to [..., d (2K + 1)]: sin, cos, position by dimension."""
  features = []
  for x in np.moveaxis(np.asarray(positions, np.float64), -1, 0):
    bands = np.linspace(1, max_resolution / 2, num_bands)
    features += [np.sin(math.pi * f * x) for f in bands]
    features += [np.cos(math.pi * f * x) for f in bands]
    features += [x]
  return np.stack(features, axis=-1)


def grid(*sizes):
  """Returns [*sizes, d] coordinates from -1 to 1."""
  axes = [np.linspace(-1, 1, size) for size in sizes]
  return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)


def windows(image, size, stride, padding, fill):
  """Yields each place (i, j) of a window, and the pixels there: [H, W, C]."""
  image = np.pad(image, [*padding, (0, 0)], constant_values=fill)
  height, width = (1 + (n - size) // stride for n in image.shape[:2])
  for i in range(size):
    for j in range(size):
      pixels = image[i::stride, j::stride]
      yield i, j, pixels[:height, :width]


def same_padding(image, size, stride):
  """Pads by TensorFlow's rule: an element for each stride, more at the end."""
  padding = []
  for n in image.shape[:2]:
    total = max(stride * (math.ceil(n / stride) - 1) + size - n, 0)
    padding.append((total // 2, total - total // 2))
  return padding


def convolve(image, kernel, padding):
  """Convolves [H, W, C] with [size, size, C, D] in steps of 2 pixels."""
  places = windows(image, len(kernel), 2, padding, 0)
  return sum(pixels @ kernel[i, j] for i, j, pixels in places)


def max_pool(image, padding):
  """Takes the largest of 3 x 3, in steps of 2."""
  places = windows(image, 3, 2, padding, -np.inf)
  return np.max([pixels for _, _, pixels in places], axis=0)


def perceiver(
  params,
  inputs,  # [B, M, C]
  mask,  # [B, M]
  *,
  stages,  # 'c' and 't': the order of cross-attends and latent Transformers.
  num_self_attends,
  self_attend_heads,
  cross_attend_heads=1,
  share_cross_attends=True,
  share_latent_transformers=True,
  head='mean',
  query_residual=True,
  **_,
):
  """Returns the logits, [B, classes]. The model's other settings are shapes."""
  logits = []
  for x, present in zip(np.asarray(inputs, np.float64), mask, strict=True):
    z = under(params, 'perceiver')['perceiver']['latents']
    crosses = transformers = 0
    for stage in stages:
      if stage == 'c':
        i = min(crosses, 1) if share_cross_attends else crosses
        p = under(params, f'perceiver/~/cross_attend_{i}')
        queries = layer_norm(z, p['latent_norm'])
        keys = layer_norm(x, p['input_norm'])
        z = block(z, queries, keys, p, cross_attend_heads, present)
        crosses += 1
      else:
        i = 0 if share_latent_transformers else transformers
        for j in range(num_self_attends):
          p = under(
            params, f'perceiver/~/latent_transformer_{i}/self_attend_{j}'
          )
          normed = layer_norm(z, p['layer_norm'])
          z = block(z, normed, normed, p, self_attend_heads, np.ones(len(z)))
        transformers += 1
    top = under(params, 'perceiver')
    pooled = z.mean(axis=0)
    if head == 'query':
      query = top['decoder']['query']
      p = under(params, 'perceiver/decoder/cross_attend')
      keys = layer_norm(z, p['input_norm'])
      normed = layer_norm(query, p['latent_norm'])
      (pooled,) = block(
        query, normed, keys, p, 1, np.ones(len(z)), query_residual
      )
    logits.append(linear(pooled, top['head']))
  return np.stack(logits)


def mesh_of(platform, kind=''):
  """A mesh's attributes that a model reads before it is compiled."""
  device = types.SimpleNamespace(platform=platform, device_kind=kind)
  return types.SimpleNamespace(devices=np.array([device]), size=1)
