"""Prepares ImageNet for training, once, from its two official tars.

  python -m scripts.prepare_imagenet --manual_dir=/downloads --data_dir=/data

--manual_dir must have ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar,
which image-net.org gives to registered users. Afterwards /data is the data.dir
of configs/imagenet.py. TensorFlow, which only this needs, is installed
separately.
"""

from absl import app

from experiments import path_flags
from experiments.benchmarks.imagenet import preparation
from scripts.shared import command


@command.running()
def main(argv: list[str]) -> None:
  del argv
  preparation.prepare(
    _MANUAL_DIR.value,
    _DATA_DIR.value,
    environment=_ENVIRONMENT.value,
    report=lambda line: print(line, flush=True),
  )


if __name__ == '__main__':
  _MANUAL_DIR = path_flags.define_path(
    'manual_dir', None, 'The folder with the tars.', required=True
  )
  _DATA_DIR = path_flags.define_path(
    'data_dir', None, 'The folder to write imagenet2012/ to.', required=True
  )
  _ENVIRONMENT = path_flags.define_path(
    'environment',
    None,
    'Where to install and keep TensorFlow; by default a temporary folder.',
  )
  app.run(main)
