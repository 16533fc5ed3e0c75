"""Counts the cycles of TPU kernels in their compiled programs.

The compiler does not estimate the cycles of kernels. But TPU programs are
scheduled statically, one instruction word, or bundle, per cycle. So the bundles
of a kernel's body are the cycles of one of its steps, except for waits for
memory. The compiler dumps bundles only if told so when it is loaded, and then
for every operation, which takes minutes. So a separate process compiles the
kernels again, alone.
"""

from collections.abc import Iterator
import concurrent.futures
import multiprocessing
import os
from pathlib import Path
import tempfile
from typing import Any
from unittest import mock

import jax
import jax.extend
from ml_collections import ConfigDict
import numpy as np

from scripts.plan import step, targets

_LABEL = 'final_hlo-static-per-bundle-utilization'
_DTYPES = {'float32': 'f32', 'bfloat16': 'bf16'}


def of_kernels(
  config: ConfigDict, mode: str, target: targets.Target
) -> dict[tuple[str, str], int]:
  """Counts the bundles per step of each kernel that a config's step calls.

  Returns the counts by the kernel's name and the `signature` of its operands.
  """
  with tempfile.TemporaryDirectory() as dump:
    flags = (
      os.getenv('LIBTPU_INIT_ARGS', ''),
      f'--xla_jf_dump_to={dump}',
      '--xla_jf_dump_llo_text=true',
      f'--xla_jf_dump_llo_pass_label_regex={_LABEL}',
    )
    with (
      mock.patch.dict(os.environ, LIBTPU_INIT_ARGS=' '.join(flags)),
      concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context('spawn')
      ) as pool,
    ):
      counts = pool.submit(_count_all, config.to_dict(), mode, target, dump)
      return counts.result()


def signature(shapes: str) -> str:
  """Removes the layouts from operands as printed: 'f32[8,4]{1,0}, …'."""
  return ', '.join(shape.split('{')[0] for shape in shapes.split('}, '))


def _signature(avals: list[Any]) -> str:
  return ', '.join(
    f'{_DTYPES[np.dtype(x.dtype).name]}[{",".join(map(str, x.shape))}]'
    for x in avals
  )


def _pallas_calls(jaxpr: Any) -> Iterator[Any]:
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'pallas_call':
      yield equation
    else:
      for inner in jax.extend.core.jaxprs_in_params(equation.params):
        yield from _pallas_calls(inner)


def _count_all(
  config: dict[str, Any], mode: str, target: targets.Target, dump: str
) -> dict[tuple[str, str], int]:
  devices = targets.devices(target)
  traced, _ = step.trace(ConfigDict(config), mode, devices)
  kernels = {}
  for equation in _pallas_calls(traced.jaxpr.jaxpr):
    avals = [x.aval for x in equation.invars]
    kernels[equation.params['name'], _signature(avals)] = equation, avals
  counts = {}
  for (name, operands), (equation, avals) in kernels.items():
    before = set(Path(dump).iterdir())
    _compile_alone(equation, avals, devices[0])
    (table,) = (
      path.read_text().partition('== UTILIZATION:\n')[2]
      for path in set(Path(dump).glob(f'*-{name}*{_LABEL}.txt')) - before
    )
    counts[name, operands] = len(table.splitlines())
  return counts


def _compile_alone(equation: Any, avals: list[Any], device: jax.Device) -> None:
  split = jax.sharding.SingleDeviceSharding(device)
  shapes = [
    jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split) for x in avals
  ]

  def kernel(*arrays):
    return equation.primitive.bind(*arrays, **equation.params)

  kernel.__name__ = equation.params['name']  # Names the dump's file.
  jax.jit(kernel).lower(*shapes).compile()
