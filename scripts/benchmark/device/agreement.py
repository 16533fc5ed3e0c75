"""The forms of attention and the kernels against the plain form, in float32."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

import perceiver
from perceiver.ops import cross_attention, self_attention
from perceiver.ops.cross_attention import hardware
from scripts.benchmark import contenders

PLAIN = {
  'attention': 'plain',
  'attention_kernel': False,
  'self_attention': 'plain',
  'compute_dtype': 'float32',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """An input and a small model with two iterations."""

  grid: tuple[int, ...]
  num_bands: int
  num_latents: int
  latent_channels: int
  num_heads: int
  dtype: str
  channels: int = 3
  is_masked: bool = False


CASES = {
  'tiny': [
    Case((20,), 4, 8, 32, 4, 'float32', channels=1),
    Case((5, 7), 4, 8, 32, 4, 'bfloat16', is_masked=True),
  ],
  'full': [
    Case((700,), 8, 32, 64, 4, 'float32', channels=1),
    Case((33, 47), 16, 48, 64, 4, 'float32', is_masked=True),
    Case((5, 24, 40), 6, 32, 64, 4, 'float32'),
    Case((224, 224), 64, 512, 256, 2, 'float32'),
    Case((224, 224), 64, 512, 256, 2, 'bfloat16'),
    Case((224, 224), 64, 512, 256, 2, 'bfloat16', is_masked=True),
  ],
}


def _forms() -> Iterator[dict[str, Any]]:
  """Yields settings of `Perceiver` that replace those of `PLAIN`."""
  has_kernel = hardware.of(contenders.one_device()).kernel is not None
  yield {}
  for form in cross_attention.FORMS[1:]:
    yield {'attention': form}
    if has_kernel:
      yield {'attention': form, 'attention_kernel': True}
  for kernel in self_attention.KERNELS:
    yield {'self_attention': kernel}


def compare(cases: str) -> Iterator[dict[str, Any]]:
  """Yields the relative errors of each form, for each case.

  The reference is the plain form in float32, at full precision. So in bfloat16
  the errors of a form are to be compared with those of the plain form there.

  Args:
    cases: a key of `CASES`.
  """
  for case in CASES[cases]:
    reference = _results(case, PLAIN)
    for form in _forms():
      line = {'case': dataclasses.asdict(case), 'form': form}
      try:
        found = _results(case, PLAIN | {'compute_dtype': case.dtype} | form)
      except ValueError as error:  # A kernel that is not for this hardware.
        yield line | {'cannot_run': str(error)}
        continue
      except Exception as error:  # The other forms still tell something.
        yield line | {'failed': f'{type(error).__name__}: {str(error)[:300]}'}
        continue
      names = 'logits', 'gradients'
      errors = map(_relative_error, found, reference)
      yield line | {'errors': dict(zip(names, errors, strict=True))}


def _results(case: Case, settings: Mapping[str, Any]) -> tuple[Any, Any]:
  """Returns a model's logits, and gradients by parameters and input."""
  rng = np.random.default_rng(0)
  content = rng.normal(size=(2, *case.grid, case.channels)).astype(np.float32)
  drawn = rng.random((2, *case.grid)) < 0.8
  mask = jnp.asarray(drawn) if case.is_masked else None
  weights = rng.normal(size=(2, 10)).astype(np.float32)
  mesh = contenders.one_device()

  @hk.transform
  def model(content, **settings):
    positions = perceiver.fourier_axes(case.grid, case.num_bands)
    segment = perceiver.Segment(content, positions, mask=mask)
    return perceiver.Perceiver(
      num_classes=10,
      num_latents=case.num_latents,
      latent_channels=case.latent_channels,
      num_cross_attends=2,
      num_latent_transformers=2,
      num_self_attends=1,
      self_attend_heads=case.num_heads,
      mesh=mesh,
      **settings,
    )(perceiver.ByteArray((segment,)))

  init = jax.jit(lambda key: model.init(key, content, **PLAIN))
  # Larger weights, so that the attention is not just a mean.
  params = jax.tree.map(lambda x: 1.5 * x, init(jax.random.key(1)))

  def loss(params, content):
    logits = model.apply(params, None, content, **settings)
    return jnp.sum(logits * weights), logits

  gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
  with jax.default_matmul_precision('highest'):  # No TF32.
    (_, logits), found = gradients(params, content)
  return jax.device_get((logits, found))


def _relative_error(found: Any, expected: Any) -> float:
  """Returns the norm of the difference, in units of the expected norm."""
  arrays = [
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(float)
    for tree in (found, expected)
  ]
  difference = np.linalg.norm(arrays[0] - arrays[1])
  return float(difference / np.linalg.norm(arrays[1]))
