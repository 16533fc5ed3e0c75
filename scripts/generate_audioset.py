"""Generates clips and CSVs, a stand-in for AudioSet that needs no download.

python -m scripts.generate_audioset --output=data/events
"""

import os

from absl import app

from experiments import path_flags
from scripts import command


def main(argv: list[str]) -> None:
  del argv
  with command.running('experiments,audioset'):
    from experiments.benchmarks.audioset import standin

    standin.generate(_OUTPUT.value, os.cpu_count() or 1)
    print(
      f'{_OUTPUT.value}: clips/ and csv/ of {len(standin.CLASSES)} classes,'
      f' {standin.SIZES}'
    )


if __name__ == '__main__':
  _OUTPUT = path_flags.define_path('output', 'data/events', 'To write to.')
  app.run(main)
