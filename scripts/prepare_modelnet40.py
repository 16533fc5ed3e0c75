"""Prepares ModelNet40 for training, once, from its archive of meshes.

  python -m scripts.prepare_modelnet40 --source=ModelNet40.zip --data_dir=data

The archive is read in place. --dataset=modelnet40_hdf5 takes the point sets of
modelnet40_ply_hdf5_2048.zip instead, --dataset=solids what
scripts/generate_solids.py makes. Interrupted, it starts anew.
"""

import logging
import sys

from absl import app, flags
from absl import logging as absl_logging

from experiments.benchmarks.modelnet40 import source as modelnet40


def main(argv: list[str]) -> None:
  del argv
  absl_logging.set_verbosity(absl_logging.ERROR)
  logging.basicConfig(format='%(message)s')
  logging.getLogger('experiments').setLevel(logging.INFO)
  try:
    from experiments.benchmarks.modelnet40.builder import point_clouds

    print(point_clouds.prepare(_DATASET.value, _SOURCE.value, _DATA_DIR.value))
  except ImportError as error:
    sys.exit(f"Error: {error}: pip install -e '.[experiments,modelnet40]'")
  except (OSError, ValueError) as error:
    sys.exit(f'Error: {error}')
  except KeyboardInterrupt:
    sys.exit('Interrupted: nothing is prepared. Run the same command again.')


if __name__ == '__main__':
  _DATASET = flags.DEFINE_enum(
    'dataset', 'modelnet40', sorted(modelnet40.DATASETS), 'What to prepare.'
  )
  _SOURCE = flags.DEFINE_string(
    'source', None, 'The zip archive.', required=True
  )
  _DATA_DIR = flags.DEFINE_string(
    'data_dir', None, "To write to; the config's data.dir.", required=True
  )
  app.run(main)
