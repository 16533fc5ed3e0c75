"""Kernels are compiled by the compilers of their hardware."""

import json
import subprocess
import sys

import pytest

from scripts.plan import environment, targets
from tests.conftest import ROOT
from tests.perceiver.compile_kernels import CASES

CROSS = [f'cross_attention_{x}' for x in ('backward', 'elements', 'forward')]
SELF = [f'self_attention_{x}' for x in ('backward', 'forward')]
CUDNN = [f'__cudnn$fmhaSoftmax{x}' for x in ('', 'Backward')]

pytestmark = [pytest.mark.slow, pytest.mark.versions]


def compile_kernels(compilers, *names):
  platform = targets.parse(names[0]).platform
  result = subprocess.run(
    [sys.executable, '-m', 'tests.perceiver.compile_kernels', *names],
    cwd=ROOT,
    env=environment.variables(compilers[platform]),
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  return [json.loads(line) for line in result.stdout.splitlines()]


def test_for_tpus(compilers):
  """Compiles all cases for v5e, and images and latents for the others."""
  first, *others = compile_kernels(
    compilers, 'v5e:2x2', 'v4:2x2x1', 'v5p:2x2x1', 'v6e:2x2'
  )
  assert first['cases'] == {**dict.fromkeys(CASES, CROSS), 'latents': SELF}
  for result in others:
    assert result['cases'] == {'images': CROSS, 'latents': SELF}


def test_for_gpus(compilers):
  """No register is spilled on sm_80, sm_90 and sm_100; 16 warps run at once."""
  names = ['a100:1', 'h100:1', 'b200:1']
  for result in compile_kernels(compilers, *names):
    assert result['cases'] == {'images': CROSS, 'latents': CUDNN}
    assert len(result['kernels']) == len(CROSS)
    for kernel in result['kernels']:
      assert kernel['spill_bytes'] == 0
      assert kernel['programs'] >= 1
