"""Prepares ImageNet for training, once, from its tars or from TFRecord files.

  python -m scripts.prepare_imagenet --manual_dir=/downloads --data_dir=/data
  python -m scripts.prepare_imagenet --tfrecords=/tfds --data_dir=/data

--manual_dir must have ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar,
which image-net.org gives to registered users. TensorFlow, which only this
needs, is installed separately. --tfrecords is the data_dir of TFDS in which it
has prepared imagenet2012 as TFRecord files, or the folder of its version; if
interrupted, the same command goes on. Afterwards /data is the data.dir of
configs/imagenet.py.
"""

from absl import app

from experiments import path_flags
from scripts.shared import command


def report(line: str) -> None:
  print(line, flush=True)


@command.running('experiments,tfrecord')
def main(argv: list[str]) -> None:
  del argv
  manual_dir, tfrecords = _MANUAL_DIR.value, _TFRECORDS.value
  if (manual_dir is None) == (tfrecords is None):
    raise ValueError(
      'Give either --manual_dir, the folder with the official tars, or'
      ' --tfrecords, what TFDS has prepared as TFRecord files.'
    )
  if tfrecords is not None:
    from experiments.benchmarks.imagenet import tfrecords as conversion

    conversion.convert(tfrecords, _DATA_DIR.value, report)
    return
  from experiments.benchmarks.imagenet import preparation

  preparation.prepare(
    manual_dir, _DATA_DIR.value, environment=_ENVIRONMENT.value, report=report
  )


if __name__ == '__main__':
  _MANUAL_DIR = path_flags.define_path(
    'manual_dir', None, 'The folder with the tars.'
  )
  _TFRECORDS = path_flags.define_path(
    'tfrecords', None, 'The folder that TFDS has prepared.'
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
