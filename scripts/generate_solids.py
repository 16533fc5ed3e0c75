"""Generates solids.zip, a stand-in for ModelNet40.zip that needs no download.

python -m scripts.generate_solids --output=data/solids.zip
"""

import os
import sys

from absl import app, flags

from experiments.benchmarks.modelnet40 import standin as solids


def main(argv: list[str]) -> None:
  del argv
  path = _OUTPUT.value
  try:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    solids.generate(path)
  except OSError as error:
    sys.exit(f'Error: {error}')
  print(f'{path}: {len(solids.CATEGORIES)} kinds of solids, {solids.SIZES}')


if __name__ == '__main__':
  _OUTPUT = flags.DEFINE_string('output', 'data/solids.zip', 'To write to.')
  app.run(main)
