"""Generates a small stand-in for ImageNet, to test what reads ImageNet.

  python -m scripts.generate_imagenet --data_dir=/data/mini_imagenet

It has 12 classes. Each of folders/, flat/, tfds/, tars/ and, with pyarrow,
parquet/ in data_dir is a data.dir for configs/imagenet.py.
"""

from absl import app, flags

from experiments import path_flags
from experiments.benchmarks.imagenet import standin
from scripts.shared import command


@command.running()
def main(argv: list[str]) -> None:
  del argv
  standin.generate(
    _DATA_DIR.value, _NUM_TRAIN.value, _NUM_EVAL.value, _SEED.value
  )
  print(f'Wrote {_DATA_DIR.value}')


if __name__ == '__main__':
  _DATA_DIR = path_flags.define_path(
    'data_dir', None, 'The folder to write.', required=True
  )
  _NUM_TRAIN = flags.DEFINE_integer(
    'num_train', 240, 'How many images to train on.'
  )
  _NUM_EVAL = flags.DEFINE_integer(
    'num_eval', 60, 'How many images to validate on.'
  )
  _SEED = flags.DEFINE_integer('seed', 0, 'The seed of the images.')
  app.run(main)
