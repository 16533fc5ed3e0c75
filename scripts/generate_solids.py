"""Generates an archive that stands in for ModelNet40.zip, without a download.

python -m scripts.generate_solids --output=data/solids.zip
"""

from absl import app

from experiments import path_flags
from experiments.benchmarks.modelnet40 import standin
from scripts.shared import command


@command.running()
def main(argv: list[str]) -> None:
  del argv
  standin.generate(_OUTPUT.value)
  print(
    f'{_OUTPUT.value}: {len(standin.CATEGORIES)} kinds of solids,'
    f' {standin.SIZES}'
  )


if __name__ == '__main__':
  _OUTPUT = path_flags.define_path(
    'output', 'data/solids.zip', 'The archive to write.'
  )
  app.run(main)
