"""Generates standin.zip, a stand-in for ModelNet40.zip that needs no download.

python -m scripts.generate_solids --output=data/solids.zip
"""

from absl import app, flags

from experiments.benchmarks.modelnet40 import standin
from scripts import command


def main(argv: list[str]) -> None:
  del argv
  with command.running():
    standin.generate(_OUTPUT.value)
    print(
      f'{_OUTPUT.value}: {len(standin.CATEGORIES)} kinds of solids,'
      f' {standin.SIZES}'
    )


if __name__ == '__main__':
  _OUTPUT = flags.DEFINE_string('output', 'data/solids.zip', 'To write to.')
  app.run(main)
