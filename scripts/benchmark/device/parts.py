"""The process of a part: prints its results as lines of JSON.

  python -m scripts.benchmark.device.parts NAME SETTINGS

`SETTINGS` is JSON. Times are medians of steps that each wait for their result.
"""

from collections.abc import Callable
import functools
import importlib
import importlib.metadata
import json
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from scripts.benchmark import contenders, peers, processes
from scripts.benchmark.contenders import Contender, Prepared
from scripts.benchmark.device import agreement, trace

REPETITIONS = 15
SECONDS = 20.0  # A slow step is timed less often, but three times.
PACKAGES = 'jax', 'dm-haiku', 'libtpu', 'nvidia-cudnn', 'torch', 'transformers'


def say(**values: Any) -> None:
  print(json.dumps(values), flush=True)


def timed(step: Callable[[], Any]) -> dict[str, float]:
  """Times a step that waits for its result, after two that are not timed."""
  step()
  step()
  times: list[float] = []
  end = time.perf_counter() + SECONDS
  while len(times) < 3 or (
    len(times) < REPETITIONS and time.perf_counter() < end
  ):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
  return {
    'median_s': statistics.median(times),
    'best_s': min(times),
    'repetitions': len(times),
  }


def configure(
  config: str, batch_size: int, changes: dict[str, Any]
) -> ConfigDict:
  """Returns a config, 'NAME' or 'NAME:VARIANT' in configs/, with changes."""
  name, _, variant = config.partition(':')
  made = importlib.import_module(f'configs.{name}').get_config(variant)
  sizes = {'train.batch_size': batch_size, 'eval.batch_size': batch_size}
  made.update_from_flattened_dict(sizes | changes)
  return made


def versions() -> None:
  device = jax.devices()[0]
  found = {
    x.name: x.version
    for x in importlib.metadata.distributions()
    if x.name.startswith(PACKAGES)
  }
  say(
    platform=device.platform,
    device=device.device_kind,
    devices=jax.device_count(),
    runtime=device.client.platform_version,
    python=sys.version.split()[0],
    packages=dict(sorted(found.items())),
  )


def ceilings(size: int) -> None:
  """Times a bfloat16 product of square matrices, and a copy in memory."""
  x = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
  product = jax.jit(lambda x: x @ x)
  times = timed(lambda: product(x).block_until_ready())
  say(ceiling='product', tflops=2 * size**3 / times['median_s'] / 1e12, **times)
  y = jnp.zeros((8 * size * size,), jnp.float32)
  copy = jax.jit(lambda y: y + 1)
  times = timed(lambda: copy(y).block_until_ready())
  moved = 2 * y.nbytes / times['median_s'] / 1e12
  say(ceiling='copy', tb_per_s=moved, **times)


def _contender(
  part: str, mode: str, batch_size: int, config: ConfigDict
) -> Prepared:
  return contenders.prepare(
    Contender('', mode, batch_size, part, config.to_dict())
  )


def _report(prepared: Prepared, batch_size: int, peak: Callable[[], int]):
  times = timed(prepared.step)
  median = times['median_s']
  say(
    **times,
    examples_per_s=batch_size / median,
    tflops=prepared.flops / median / 1e12,  # As the paper counts.
    compile_s=prepared.compile_s,
    planned_gb=(prepared.compiler_bytes or 0) / 1e9,
    peak_gb=peak() / 1e9,
  )


def step(
  config: str,
  batch_size: int,
  mode: str,
  changes: dict[str, Any],
  part: str = 'model',
) -> None:
  """Times a step of a model, or of one cross-attention."""
  made = configure(config, batch_size, changes)
  prepared = _contender(part, mode, batch_size, made)
  _report(prepared, batch_size, processes.peak_bytes)


def profile(
  config: str, batch_size: int, mode: str, changes: dict[str, Any]
) -> None:
  """Says where a step's time goes, by kernels of the device."""
  made = configure(config, batch_size, changes)
  prepared = _contender('model', mode, batch_size, made)
  prepared.step()
  for line in trace.by_kernel(prepared.step):
    say(**line)


def peer(
  config: str, batch_size: int, mode: str, changes: dict[str, Any]
) -> None:
  """Times transformers' model of the config's size, on the GPU if it can."""
  peers.check_installed(('torch', 'transformers'))
  import torch

  size = peers.size_of(configure(config, batch_size, changes))
  on_gpu = torch.cuda.is_available()
  device = 'cuda' if on_gpu else 'cpu'
  prepared = peers.prepare('transformers', mode, batch_size, size, device)
  peak = torch.cuda.max_memory_allocated if on_gpu else processes.peak_of_host
  say(peer='transformers', torch=torch.__version__, torch_device=device)
  _report(prepared, batch_size, peak)


def check(cases: str) -> None:
  """Compares the forms and kernels with the plain form."""
  for line in agreement.compare(cases):
    say(**line)


PARTS: dict[str, Callable[..., None]] = {
  'versions': versions,
  'check': check,
  'ceilings': ceilings,
  'step': step,
  'profile': profile,
  'cross': functools.partial(step, part='cross_attention'),
  'peer': peer,
}


def main(name: str, settings: str) -> None:
  PARTS[name](**json.loads(settings))


if __name__ == '__main__':
  main(*sys.argv[1:])
