"""Prepares ModelNet40 for training, once, from its archive of meshes.

  python -m scripts.prepare_modelnet40 --source=ModelNet40.zip --data_dir=data

--source is a zip or a tar (.tar, .tar.gz), which is not unpacked, or the folder
that was; all give the same data. --dataset says which set it is, among them
ModelNet10 and the point sets of PointNet's and PointNet++'s authors:
docs/benchmarks.md lists them. If interrupted, it starts again.
"""

from absl import app, flags

from experiments import path_flags
from experiments.benchmarks.modelnet40 import source
from scripts.shared import command


@command.running(
  'experiments,modelnet40',
  interrupted='Interrupted: nothing is prepared. Run the same command again.',
)
def main(argv: list[str]) -> None:
  del argv
  from experiments.benchmarks.modelnet40 import preparation

  print(preparation.prepare(_DATASET.value, _SOURCE.value, _DATA_DIR.value))


if __name__ == '__main__':
  _DATASET = flags.DEFINE_enum(
    'dataset', 'modelnet40', sorted(source.DATASETS), 'The data set to prepare.'
  )
  _SOURCE = path_flags.define_path(
    'source', None, 'The archive, or its unpacked folder.', required=True
  )
  _DATA_DIR = path_flags.define_path(
    'data_dir',
    None,
    "The folder to write; the config's data.dir.",
    required=True,
  )
  app.run(main)
