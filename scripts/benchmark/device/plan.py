"""The parts to measure, most important first, with their time limits."""

from collections.abc import Mapping
from typing import Any

from scripts.benchmark.device.runner import Part

NAMES = 'versions', 'check', 'ceilings', 'step', 'profile', 'cross', 'peer'
IMAGENET = 'imagenet'
_BFLOAT16 = {'model.compute_dtype': 'bfloat16'}


def _step(
  seconds: float,
  config: str,
  batch_size: int,
  changes: Mapping[str, Any] | None = None,
  *,
  name: str = 'step',
  mode: str = 'train',
  platform: str | None = None,
) -> Part:
  settings = {
    'config': config,
    'batch_size': batch_size,
    'mode': mode,
    'changes': _BFLOAT16 | dict(changes or {}),
  }
  return Part(name, seconds, settings, platform)


def full() -> list[Part]:
  """Returns the parts for an accelerator: models of the paper's size."""
  factored = {'model.attention': 'factored'}
  plain = {'model.attention': 'plain'}
  no_kernel = {'model.attention_kernel': False}
  cudnn = {'model.self_attention': 'cudnn'}
  return [
    Part('versions', 60),
    Part('check', 200, {'cases': 'full'}),
    Part('ceilings', 60, {'size': 8192}),
    _step(240, IMAGENET, 64),
    _step(240, IMAGENET, 64, cudnn, platform='gpu'),
    _step(240, IMAGENET, 64, {'model.unroll': True}),
    _step(240, IMAGENET, 64, {'model.attention': 'no_kv'}),
    _step(240, IMAGENET, 16, plain),
    _step(240, IMAGENET, 64, name='profile'),
    *(
      _step(120, IMAGENET, 32, changes, name='cross', mode=mode)
      for mode in ('train', 'forward')
      for changes in (factored, factored | no_kernel, plain)
    ),
    _step(240, IMAGENET, 128),
    _step(240, IMAGENET, 64, no_kernel),
    _step(240, 'audioset:av_mel', 16),
    _step(240, 'modelnet40', 64),
    _step(120, 'imagenet:io', 16, name='peer'),
    _step(120, IMAGENET, 64, mode='forward'),
    _step(120, IMAGENET, 64, cudnn, mode='forward', platform='gpu'),
  ]


def tiny() -> list[Part]:
  """Returns the same kinds of parts, small enough for any machine."""
  digits = 'digits:smoke'
  return [
    Part('versions', 60),
    Part('check', 120, {'cases': 'tiny'}),
    Part('ceilings', 60, {'size': 64}),
    _step(60, digits, 4),
    _step(60, digits, 4, {'model.self_attention': 'cudnn'}, platform='gpu'),
    _step(60, digits, 4, name='profile'),
    _step(60, digits, 4, {'model.attention': 'factored'}, name='cross'),
    _step(60, digits, 4, name='peer', mode='forward'),
    _step(60, digits, 4, mode='forward'),
  ]
