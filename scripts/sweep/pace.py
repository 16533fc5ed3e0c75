"""How fast a device is, by which a sweep's time elsewhere tells that here.

python -m scripts.sweep.pace

Prints the seconds of a training step of a small Perceiver.
"""

import os
import statistics
import subprocess
import sys
import time

from experiments import host_memory
from scripts.sweep.training import Device

STEPS = 30


def of(device: Device) -> float:
  """The seconds of a step on a device, alone; in a process of its own.

  Raises:
    ChildProcessError: if it fails, as where there is no such device.
  """
  with device.inherited():
    found = subprocess.run(
      [sys.executable, '-m', 'scripts.sweep.pace'],
      env={**os.environ, **device.environment()},
      capture_output=True,
      text=True,
    )
  if found.returncode:
    *_, reason = found.stderr.strip().splitlines() or ['it said nothing']
    raise ChildProcessError(f'--devices: {device.name or "all"}: {reason}')
  return float(found.stdout)


def measure() -> float:
  """Measures in this process: the median of STEPS steps."""
  import jax
  import numpy as np

  from configs import fashion_mnist
  from experiments import experiment, train_step

  config = fashion_mnist.get_config('table2_perceiver')
  run = experiment.create(config)
  batch = {
    name: np.ones(x.shape, x.dtype)
    for name, x in run.task.train_batch_spec(config.train.batch_size).items()
  }
  state = jax.jit(run.init_state)(jax.random.key(0))
  step = train_step.make_train_step(run)
  times = []
  for _ in range(STEPS + 1):
    begin = time.perf_counter()
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    times.append(time.perf_counter() - begin)
  return statistics.median(times[1:])  # The first one compiles.


if __name__ == '__main__':
  host_memory.restart_with_large_pages()  # As runs have them.
  print(measure())
