"""Writes one HTML page on a run, or on several side by side.

  python -m scripts.report runs/digits
  python -m scripts.report runs/imagenet runs/permuted --output=report.html

The page is one file, which loads nothing else. It says what it cannot show,
such as pictures whose data is gone.
"""

from absl import app, flags

from experiments import path_flags, storage
from scripts import report
from scripts.shared import command

_OUTPUT = path_flags.define_path(
  'output',
  None,
  f'The file; by default {report.FILE} in the run, or here for several.',
)
_DATA_DIR = path_flags.define_path(
  'data_dir', None, "Where the runs' data is, if it has moved."
)
_MAPS = flags.DEFINE_integer(
  'maps', 2, 'How many examples to show attention maps of.', lower_bound=0
)
_MISTAKES = flags.DEFINE_integer(
  'mistakes', 12, 'How many mistakes to show.', lower_bound=0
)


@command.running()
def main(argv: list[str]) -> None:
  if len(argv) < 2:
    raise ValueError('Name the directory of a run: scripts.report runs/…')
  path = report.write(
    [storage.expand(workdir, 'The directory of a run') for workdir in argv[1:]],
    _OUTPUT.value,
    data_dir=_DATA_DIR.value,
    num_maps=_MAPS.value,
    num_mistakes=_MISTAKES.value,
  )
  print(path)


if __name__ == '__main__':
  app.run(main)
