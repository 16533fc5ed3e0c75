"""Generates clips and CSVs, a stand-in for AudioSet that needs no download.

python -m scripts.generate_audioset --output=data/events
"""

import os
import sys

from absl import app, flags


def main(argv: list[str]) -> None:
  del argv
  try:
    from experiments.benchmarks.audioset import standin as audioset_events
  except ImportError as error:
    sys.exit(
      f"Error: {error}: pip install -e '.[experiments,audioset]' brings it."
    )
  try:
    audioset_events.generate(_OUTPUT.value, os.cpu_count() or 1)
  except OSError as error:
    sys.exit(f'Error: {error}')
  print(
    f'{_OUTPUT.value}: clips/ and csv/ of {len(audioset_events.CLASSES)}'
    f' classes, {audioset_events.SIZES}'
  )


if __name__ == '__main__':
  _OUTPUT = flags.DEFINE_string('output', 'data/events', 'To write to.')
  app.run(main)
