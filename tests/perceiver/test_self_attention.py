"""Self-attention, in all forms, and its parts have correct gradients."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver.ops import (
  attention,
  self_attention,
  self_attention_gpu,
  self_attention_tpu,
)
from scripts.plan import targets
from tests.perceiver import reference


def plain(query, key, value, num_heads, attend=attention.attend):
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)
  return attend(split(query), split(key), split(value)).reshape(query.shape)


def arrays(query, key, value, num_heads):
  return plain(query, key, value, num_heads, attention.self_attend)


def kernel(query, key, value, num_heads):
  return self_attention_tpu.attend(query, key, value, num_heads, True)


def library(query, key, value, num_heads):
  """Computes what `self_attention_gpu` asks of cuDNN, by XLA."""
  return self_attention_gpu.attend(query, key, value, num_heads, 'xla')


@pytest.mark.parametrize(
  ('dtype', 'tolerance'),
  [
    (jnp.float32, 1e-6),
    # They round at different places; 2⁻⁸ is a bit of bfloat16.
    (jnp.bfloat16, 2**-7),
  ],
)
@pytest.mark.parametrize(
  ('form', 'size', 'num_channels', 'num_heads'),
  [
    (arrays, 7, 12, 3),
    (arrays, 24, 128, 2),
    (kernel, 8, 128, 1),
    (kernel, 24, 256, 2),
    (library, 7, 48, 3),
    (library, 24, 256, 2),
  ],
)
def test_every_form_is_attention(
  form, size, num_channels, num_heads, dtype, tolerance
):
  rng = np.random.default_rng(0)
  shape = (2, size, num_channels)
  module = {kernel: self_attention_tpu, library: self_attention_gpu}.get(form)
  assert module is None or module.suits(size, num_channels, num_heads)
  *qkv, cotangent = (jnp.asarray(rng.normal(size=shape), dtype) for _ in 'qkvc')

  @jax.jit
  def run(*qkv):
    out, transpose = jax.vjp(lambda *x: plain(*x, num_heads), *qkv)
    other, other_transpose = jax.vjp(lambda *x: form(*x, num_heads), *qkv)
    return (out, *transpose(cotangent)), (other, *other_transpose(cotangent))

  for expected, actual in zip(*run(*qkv), strict=True):
    assert actual.dtype == dtype
    expected, actual = (np.asarray(x, np.float64) for x in (expected, actual))
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error <= tolerance


def test_large_logits_overflow_nothing():
  query, key, value = (300.0 * jnp.ones((1, 4, 8)) for _ in 'qkv')
  out, transpose = jax.vjp(lambda *x: arrays(*x, 1), query, key, value)
  np.testing.assert_allclose(out, value, rtol=1e-6)
  assert all(jnp.isfinite(x).all() for x in transpose(out))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_a_linear_layer_has_the_gradients_of_its_product(dtype):
  rng = np.random.default_rng(0)
  x, w, b, cotangent = (
    jnp.asarray(rng.integers(-4, 5, size=shape), dtype)
    for shape in ((2, 7, 3), (3, 5), (5,), (2, 7, 5))
  )
  out, transpose = jax.vjp(lambda x, w, b: x @ w + b[None, None], x, w, b)
  other, other_transpose = jax.vjp(attention.linear, x, w, b)
  # Small integers, without rounding.
  jax.tree.map(
    np.testing.assert_array_equal,
    (out, *transpose(cotangent)),
    (other, *other_transpose(cotangent)),
  )
  np.testing.assert_array_equal(
    attention._sum_of_outer_products(x, cotangent),  # For other platforms.
    attention._transposed_first(x, cotangent),
  )


def test_normalization_has_the_gradients_of_its_definition():
  rng = np.random.default_rng(0)
  x, cotangent = (jnp.asarray(rng.normal(size=(2, 5, 6))) for _ in range(2))

  def definition(x):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + attention.EPSILON)

  # Small variances, too, where epsilon matters.
  for scale in (1.0, 1e-3):
    out, transpose = jax.vjp(definition, scale * x)
    other, other_transpose = jax.vjp(attention.normalize, scale * x)
    np.testing.assert_allclose(other, out, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
      other_transpose(cotangent)[0] * scale,
      transpose(cotangent)[0] * scale,
      rtol=1e-4,
      atol=1e-6,
    )


@pytest.mark.parametrize(
  ('dtype', 'tolerance'),
  [
    (jnp.float32, {'rtol': 1e-6, 'atol': 1e-4}),
    # A sum in bfloat16 would be off by half.
    (jnp.bfloat16, {'rtol': 2**-8}),
  ],
)
def test_gradients_of_broadcast_channels_are_summed_in_float32(
  dtype, tolerance
):
  vector, shape = jnp.arange(3.0, dtype=dtype), (2, 500, 3)
  rounded = jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)
  out, transpose = jax.vjp(
    lambda v: attention.broadcast_channels(v, shape), vector
  )
  np.testing.assert_array_equal(out, np.broadcast_to(vector, shape))
  (total,) = transpose(rounded)
  assert total.dtype == dtype
  total, rounded = (np.asarray(x, np.float64) for x in (total, rounded))
  np.testing.assert_allclose(total, rounded.sum(axis=(0, 1)), **tolerance)


def test_cudnn_is_called_for_the_same_attention():
  """Its calls have the operands, products and scale of the plain form."""
  mesh = reference.mesh_of('gpu')
  attend = self_attention.choose('cudnn', 24, 256, 2, 'bfloat16', mesh=mesh)
  x = jax.ShapeDtypeStruct((3, 24, 256), jnp.bfloat16)

  def gradients(query, key, value, cotangent):
    _, transpose = jax.vjp(attend, query, key, value)
    return transpose(cotangent)

  with targets.with_cudnn():
    traced = jax.jit(gradients).trace(x, x, x, x)
    text = traced.lower(lowering_platforms=('cuda',)).as_text()
  calls = re.findall(
    r'@(__cudnn\$\w+)\(.*?backend_config = "(.*?)".*?\} : \((.*?)\) ->', text
  )
  split, totals = 'tensor<3x24x2x128xbf16>', 'tensor<3x2x24xf32>'
  operands = {
    '__cudnn$fmhaSoftmax': [split] * 3,
    '__cudnn$fmhaSoftmaxBackward': [*[split] * 3, totals, split, split],
  }
  assert [name for name, _, _ in calls] == [*operands]
  products = {
    # [B, N, H, F] and [B, N, H, F] to [B, H, N, N], over F.
    'bmm1_dot': ('3', '3', '02', '02'),
    'bmm2_grad_gemm2_dot': ('3', '3', '02', '02'),
    # [B, H, N, N] and [B, N, H, F], over keys, or over queries.
    'bmm2_dot': ('3', '1', '01', '02'),
    'bmm1_grad_gemm2_dot': ('3', '1', '01', '02'),
    'bmm1_grad_gemm1_dot': ('2', '1', '01', '02'),
    'bmm2_grad_gemm1_dot': ('2', '1', '01', '02'),
  }
  found = {}
  for name, escaped, types in calls:
    assert types.split(', ') == operands[name]
    config = json.loads(escaped.replace('\\22', '"'))
    facts = config['cudnn_fmha_backend_config']
    assert facts['fmha_scale'] == pytest.approx(128**-0.5)
    assert (facts['mask_type'], facts['dropout_rate']) == ('NO_MASK', 0.0)
    for key, numbers in facts.items():
      if key.endswith('_dimension_numbers'):
        axes = (''.join(x) for x in numbers.values())
        found[key.removesuffix('_dimension_numbers')] = (*axes,)
  assert found == products


@pytest.mark.parametrize(
  ('size', 'num_channels', 'num_heads'),
  [(512, 512, 8), (12, 128, 1), (1024, 1024, 8)],
)
def test_heads_that_fill_no_register_or_do_not_fit_are_left_to_others(
  size, num_channels, num_heads
):
  assert not self_attention_tpu.suits(size, num_channels, num_heads)
  assert self_attention_tpu.suits(512, 1024, 8)


def test_attended_values_are_kept_once():
  """Also the next layer's backward pass needs them."""

  def loss(x, w):
    def step(x, _):
      heads = x.reshape(*x.shape[:2], 2, 8)
      attended = attention.self_attend(heads, heads, heads)
      return attention.linear(attended, w, jnp.zeros(16)), None

    return jax.lax.scan(step, x, None, length=3)[0].sum()

  x, w = jnp.zeros((5, 7, 16)), jnp.zeros((16, 16))
  kept = jax.eval_shape(lambda: jax.vjp(loss, x, w)[1])
  sizes = [leaf.size for leaf in jax.tree.leaves(kept)]
  assert sizes.count(3 * x.size) == 4  # Queries, keys, values and these.


FULL = (512, 1024, 8, 'bfloat16')


@pytest.mark.parametrize(
  ('form', 'platform', 'use_kernel', 'kernel'),
  [
    ('auto', 'cpu', True, None),
    ('auto', 'tpu', True, self_attention_tpu),
    ('auto', 'tpu', False, None),
    ('auto', 'gpu', True, None),  # Until cuDNN's was timed.
    ('plain', 'tpu', True, None),
    ('mosaic', 'tpu', False, self_attention_tpu),
    ('cudnn', 'gpu', False, self_attention_gpu),
  ],
)
def test_a_form_is_chosen_by_name_or_by_the_hardware(
  form, platform, use_kernel, kernel
):
  mesh = reference.mesh_of(platform)
  chosen = self_attention.choose(form, *FULL, use_kernel=use_kernel, mesh=mesh)
  expected = None if kernel is None else kernel.attend
  assert getattr(chosen, 'func', None) is expected


@pytest.mark.parametrize(
  ('form', 'mesh', 'sizes', 'message'),
  [
    ('fast', ('gpu',), FULL, "'fast' is none of .'auto', 'plain', 'mosaic'"),
    ('cudnn', ('cpu',), FULL, 'needs an NVIDIA GPU .* on cpu'),
    ('mosaic', ('gpu',), FULL, 'needs a TPU .* on gpu'),
    ('mosaic', ('tpu', 'TPU v3'), FULL, 'needs a TPU v4 or later'),
    ('cudnn', ('gpu',), (512, 1024, 8, 'float32'), 'in bfloat16.* in float32'),
    ('cudnn', ('gpu',), (512, 1024, 4, 'bfloat16'), '4 heads of 256 channels'),
    ('cudnn', ('gpu',), (512, 96, 8, 'bfloat16'), '8 heads of 12 channels'),
    ('mosaic', ('tpu',), (648, 1024, 8, 'bfloat16'), 'are 648 latents'),
  ],
)
def test_a_kernel_that_cannot_run_is_one_clear_error(
  form, mesh, sizes, message
):
  with pytest.raises(ValueError, match=message):
    self_attention.choose(form, *sizes, mesh=reference.mesh_of(*mesh))


def test_several_devices_without_a_mesh_take_no_kernel(monkeypatch):
  monkeypatch.setattr(jax, 'devices', lambda: reference.mesh_of('gpu').devices)
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  attend = self_attention.choose('cudnn', *FULL)
  assert attend.func is self_attention_gpu.attend
  monkeypatch.setattr(jax, 'device_count', lambda: 8)
  with pytest.raises(ValueError, match='for several devices a mesh'):
    self_attention.choose('cudnn', *FULL)
