"""Generates the stand-in data that a sweep's variants need."""

from collections.abc import Sequence
import pathlib
import subprocess
import sys

from ml_collections import ConfigDict

from experiments import benchmarks, config_checks
from experiments.errors import DataNotFoundError
from scripts.sweep.plan import Variant

EVENTS = ('events', 'more_events')


def make(variants: Sequence[Variant]) -> None:
  """Generates missing data, and checks that all other data is there.

  Raises:
    DataNotFoundError: if data is missing that cannot be generated.
    ChildProcessError: if generating it fails.
  """
  seen = set()
  for variant in variants:
    config = variant.runs(variant.learning_rates[0])[0].config()
    config_checks.resolve_paths(config)
    data_dir = config.data.get('dir')
    place = (variant.config_name, data_dir)
    if place in seen:
      continue
    seen.add(place)
    task = benchmarks.create(**config.task)
    try:
      task.source('train', data_dir)
    except DataNotFoundError:
      commands = _commands(config)
      if not commands:
        raise
      for command in commands:
        _call(command)


def _commands(config: ConfigDict) -> list[list[str]]:
  """Commands that make a config's data; none if people have to get it."""
  folder = pathlib.Path(config.data.dir)
  if config.task.get('dataset') == 'solids':
    archive = folder / 'solids.zip'
    return [
      ['scripts.generate_solids', f'--output={archive}'],
      [
        'scripts.prepare_modelnet40',
        '--dataset=solids',
        f'--source={archive}',
        f'--data_dir={folder}',
      ],
    ]
  if config.task.name == 'audioset' and folder.name in EVENTS:
    sizes = [f'--{x}={config.task[x]}' for x in ('num_train', 'num_eval')]
    return [
      ['scripts.generate_audioset', f'--output={folder}', *sizes],
      [
        'scripts.prepare_audioset',
        f'--clips={folder / "clips"}',
        f'--csv={folder / "csv"}',
        f'--data_dir={folder}',
      ],
    ]
  return []


def _call(command: list[str]) -> None:
  print('python -m', *command)
  try:
    subprocess.run([sys.executable, '-m', *command], check=True)
  except subprocess.CalledProcessError as error:
    raise ChildProcessError(
      f'python -m {" ".join(command)} failed with status {error.returncode};'
      ' its output is above.'
    ) from error
