"""Prints what each variant of a config costs: python -m scripts.costs.

FLOPs follow the paper's rule (`perceiver.cost`); training counts three times
the forward pass. Device-hours assume a rate, --tflops, in these FLOPs.
"""

import importlib
import importlib.util

from absl import app, flags

from experiments import benchmarks, experiment, models
from perceiver import cost
from scripts.shared import command


def row(module, variant: str, tflops: float) -> str:
  """Returns 'variant  M parameters  GFLOPs  training FLOPs  device-hours'."""
  config = module.get_config(variant)
  params, _ = models.model_shapes(config)
  parameters = cost.count_parameters(params)
  flops = models.forward_flops(config)
  task = benchmarks.create(**config.task)
  steps = experiment.total_steps(config, task)
  total = 3 * flops * steps * config.train.batch_size
  return (
    f'{variant or "(default)":25}{parameters / 1e6:9.1f}'
    f'{flops / 1e9:9.1f}{total:9.1e}'
    f'{total / (tflops * 1e12) / 3600:9.3g}'
  )


@command.running()
def main(argv: list[str]) -> None:
  del argv
  if importlib.util.find_spec(f'configs.{_CONFIG.value}') is None:
    raise ValueError(
      f'--config={_CONFIG.value}: there is no such configs/NAME.py.'
    )
  module = importlib.import_module(f'configs.{_CONFIG.value}')
  print(f'{"variant":25}{"M par.":>9}{"GFLOPs":>9}{"total":>9}{"hours":>9}')
  for variant in module.VARIANTS:
    print(row(module, variant, _TFLOPS.value))


if __name__ == '__main__':
  _CONFIG = flags.DEFINE_string(
    'config', 'imagenet', 'NAME of configs/NAME.py.'
  )
  _TFLOPS = flags.DEFINE_float(
    'tflops', 400.0, 'The rate of a device, in 1e12 FLOP/s.'
  )
  app.run(main)
