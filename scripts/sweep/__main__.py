r"""Trains many variants alike and puts them beside the paper's figures.

  python -m scripts.sweep --workdir=runs/small --devices=cpu:0,cpu:1
  python -m scripts.sweep --config=configs/fashion_mnist.py --variants=table2 \
      --workdir=runs/small

The sweep tries each learning rate of a config's LEARNING_RATES in short runs,
picks one by the examples that the variant holds out, and trains with several
seeds. Before it starts it says how long that takes here. Every run has its own
directory. A sweep that was killed goes on when it is started again: finished
runs stay, and the others resume. If a run fails, the sweep names it and goes on
with the others.

At the end, and when it is stopped, the sweep writes its results so far into the
workdir: results.json and results.npz, which `scripts.tables --small
--results=…` reads, table.md, and pictures of the claims and of each of the
paper's tables and figures that has been trained.
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
from scripts.sweep import (
  collection,
  expectation,
  figures,
  pace,
  plan,
  runner,
  stand_ins,
  training,
)

CONFIGS = ('fashion_mnist', 'modelnet40', 'audioset')


def _settings(texts: list[str]) -> dict[str, Any]:
  """Parses settings. Raises ValueError for a text that is not KEY=VALUE."""
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


def _write(variants: list[plan.Variant], device_pace: float) -> None:
  """Writes the results so far, and pictures of the complete tables."""
  command = shlex.join(['python', '-m', 'scripts.sweep', *sys.argv[1:]])
  found = collection.collect(variants, _WORKDIR.value, command, device_pace)
  folder = pathlib.Path(_WORKDIR.value)
  results.write(folder / 'results.json', found)
  known = results.read(folder / 'results.json')
  storage.write(storage.path(folder / 'table.md'), small.report(known) + '\n')
  for name, picture in figures.all_of(known).items():
    storage.write(storage.path(folder / name), picture)
  # A variant that is tested on several splits has a result for each.
  finished = sum(x.title in found for x in variants)
  print(f'{folder}/table.md has {finished} of {len(variants)} variants.')


@command.running(
  interrupted='Interrupted. The same command goes on where it was.'
)
def main(argv: list[str]) -> None:
  del argv
  names = [pathlib.PurePath(x).name.removesuffix('.py') for x in _CONFIG.value]
  variants = plan.select(names, _VARIANTS.value, _settings(_SET.value))
  devices = [training.Device(name) for name in _DEVICES.value or ['']]
  say = functools.partial(print, flush=True)  # At once, into a file too.
  runs = runner.Runner(variants, _WORKDIR.value, devices, say)
  stand_ins.make(variants)
  device_pace = pace.of(devices[0])
  known = results.read(results.RESULTS)
  say(
    expectation.text(variants, _WORKDIR.value, known, device_pace, len(devices))
  )
  try:
    runs.run()
  finally:
    _write(variants, device_pace)
  for run, reason in runs.failures.items():
    print(f'Failed: {run.title}: {reason}', file=sys.stderr)
  if runs.failures:
    sys.exit(1)


if __name__ == '__main__':
  _CONFIG = flags.DEFINE_list(
    'config', list(CONFIGS), 'Configs whose variants to train.'
  )
  _VARIANTS = flags.DEFINE_list(
    'variants',
    [],
    "Names in a config's SWEEPS, or of variants; default: all sweeps.",
  )
  _WORKDIR = path_flags.define_path(
    'workdir', None, 'Directory with a folder for each run.', required=True
  )
  _DEVICES = flags.DEFINE_list(
    'devices',
    [],
    'Devices that train one run each at a time: cpu:0,cpu:1 or gpu:0,gpu:1;'
    ' default: one run at a time, on all devices.',
  )
  _SET = flags.DEFINE_multi_string(
    'set', [], 'KEY=VALUE for the config of all runs; may be repeated.'
  )
  app.run(main)
