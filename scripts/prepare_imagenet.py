"""Prepares ImageNet for training, once, from its two official tars.

  python -m scripts.prepare_imagenet --manual_dir=/downloads --data_dir=/data

In --manual_dir must be ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar,
which image-net.org gives to those who sign up. Afterwards /data is the data.dir
of configs/imagenet.py. TensorFlow is installed for this alone, apart.
"""

from absl import app

from experiments import path_flags
from experiments.benchmarks.imagenet import preparation
from scripts.shared import command


def main(argv: list[str]) -> None:
  del argv
  with command.running():
    preparation.prepare(
      _MANUAL_DIR.value,
      _DATA_DIR.value,
      environment=_ENVIRONMENT.value,
      report=lambda line: print(line, flush=True),
    )


if __name__ == '__main__':
  _MANUAL_DIR = path_flags.define_path(
    'manual_dir', None, 'Where the tars are.', required=True
  )
  _DATA_DIR = path_flags.define_path(
    'data_dir', None, 'Where to write imagenet2012/.', required=True
  )
  _ENVIRONMENT = path_flags.define_path(
    'environment',
    None,
    'Where TensorFlow is installed, and kept; by default a temporary folder.',
  )
  app.run(main)
