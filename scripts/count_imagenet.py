"""Counts the classes and images in ImageNet, or in any images so arranged.

  python -m scripts.count_imagenet --data_dir=/data/imagenet100

It prints one line: the flags that fit configs/imagenet.py to what is there. Add
them to the commands that train and evaluate on it.
"""

from absl import app

from experiments import path_flags
from experiments.benchmarks.imagenet import source
from scripts.shared import command


@command.running()
def main(argv: list[str]) -> None:
  del argv
  print(source.count_flags(_DATA_DIR.value))


if __name__ == '__main__':
  _DATA_DIR = path_flags.define_path(
    'data_dir', None, "The config's data.dir.", required=True
  )
  app.run(main)
