"""Generates clips and CSVs that stand in for AudioSet, without a download.

python -m scripts.generate_audioset --output=data/events
"""

import os

from absl import app, flags

from experiments import path_flags
from scripts.shared import command


@command.running('experiments,audioset')
def main(argv: list[str]) -> None:
  del argv
  from experiments.benchmarks.audioset import standin

  sizes = standin.split_sizes(_NUM_TRAIN.value, _NUM_EVAL.value)
  standin.generate(_OUTPUT.value, os.cpu_count() or 1, _SEED.value, sizes)
  print(
    f'{_OUTPUT.value}: clips/ and csv/ of {len(standin.CLASSES)} classes,'
    f' {sizes}'
  )


if __name__ == '__main__':
  _OUTPUT = path_flags.define_path(
    'output', 'data/events', 'The folder to write.'
  )
  _NUM_TRAIN = flags.DEFINE_integer(
    'num_train', 400, 'How many clips to train on.', lower_bound=1
  )
  _NUM_EVAL = flags.DEFINE_integer(
    'num_eval', 120, 'How many clips to evaluate on.', lower_bound=1
  )
  _SEED = flags.DEFINE_integer(
    'seed', 0, 'Another one gives other clips.', lower_bound=0
  )
  app.run(main)
