r"""Trains many variants alike and puts them beside the paper's figures.

  python -m scripts.sweep --workdir=runs/small --devices=cpu:0,cpu:1
  python -m scripts.sweep --config=configs/fashion_mnist.py --variants=table2 \
      --workdir=runs/small

Each variant is trained with each learning rate of its config's LEARNING_RATES,
of which the examples that it holds out pick one, and then with other seeds.
Every run has a directory of its own. Killed at any moment and started again,
the sweep goes on: what is finished stays, and what was running resumes. A run
that fails is named, and the others go on.

At the end, and when it is stopped, the workdir has what is known by then:
results.json, which `scripts.tables --small --results=…` reads, table.md, and a
picture of each table and figure of the paper's that has been trained.
"""

import ast
import functools
import pathlib
import shlex
import sys
from typing import Any

from absl import app, flags

from experiments import path_flags, storage
from scripts.paper import results, small
from scripts.shared import command
from scripts.sweep import collection, figures, plan, runner, stand_ins

CONFIGS = ('fashion_mnist', 'modelnet40', 'audioset')


def _settings(texts: list[str]) -> dict[str, Any]:
  """Of KEY=VALUE. Raises ValueError for what is none."""
  settings = {}
  for text in texts:
    key, equals, value = text.partition('=')
    if not equals:
      raise ValueError(f'--set={text} is not KEY=VALUE.')
    try:
      settings[key] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      settings[key] = value
  return settings


def _write(variants: list[plan.Variant]) -> None:
  """What is known so far, and pictures of what is complete."""
  command = shlex.join(['python', '-m', 'scripts.sweep', *sys.argv[1:]])
  found = collection.collect(variants, _WORKDIR.value, command)
  folder = pathlib.Path(_WORKDIR.value)
  results.write(folder / 'results.json', found)
  known = results.read(folder / 'results.json')
  storage.write(storage.path(folder / 'table.md'), small.report(known) + '\n')
  for name, picture in figures.all_of(known).items():
    storage.write(storage.path(folder / name), picture)
  print(f'{folder}/table.md has {len(found)} of {len(variants)} variants.')


def main(argv: list[str]) -> None:
  del argv
  with command.running(
    interrupted='Interrupted. The same command goes on where it was.'
  ):
    names = [
      pathlib.PurePath(x).name.removesuffix('.py') for x in _CONFIG.value
    ]
    variants = plan.select(names, _VARIANTS.value, _settings(_SET.value))
    devices = [runner.Device(name) for name in _DEVICES.value or ['']]
    say = functools.partial(print, flush=True)  # Also into a file, at once.
    runs = runner.Runner(variants, _WORKDIR.value, devices, say)
    stand_ins.make(variants)
    try:
      runs.run()
    finally:
      _write(variants)
  for run, reason in runs.failures.items():
    print(f'Failed: {run.title}: {reason}', file=sys.stderr)
  if runs.failures:
    sys.exit(1)


if __name__ == '__main__':
  _CONFIG = flags.DEFINE_list('config', list(CONFIGS), 'Whose variants.')
  _VARIANTS = flags.DEFINE_list(
    'variants', [], "Names in a config's SWEEPS, or variants; none: all sweeps."
  )
  _WORKDIR = path_flags.define_path(
    'workdir', None, 'Where all runs have their directories.', required=True
  )
  _DEVICES = flags.DEFINE_list(
    'devices',
    [],
    'A run at a time on each: cpu:0,cpu:1, or gpu:0,gpu:1; none: one run at a'
    ' time, on all there is.',
  )
  _SET = flags.DEFINE_multi_string(
    'set', [], 'KEY=VALUE of the config, for all runs; may be repeated.'
  )
  app.run(main)
