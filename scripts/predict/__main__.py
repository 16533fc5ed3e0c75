"""Classifies people's own files by a run's checkpoint.

  python -m scripts.predict --workdir=runs/digits FILE_OR_FOLDER…
  find photos -name '*.jpg' | python -m scripts.predict --workdir=… -

The files are of the run's benchmark: pictures (.jpg, .png, .webp, .gif, .bmp,
.tif, .avif, .jp2, .ppm), for ModelNet40 meshes and point clouds (.off, .ply,
.npy), for AudioSet clips (.mp4, .mkv, .webm, .wav). Of folders, also of those
in them, the files with these suffixes are taken, without following links, and
how many others there are is said; a file that is named is tried whatever its
suffix; - reads paths from standard input, one a line.

Pictures are turned as EXIF says; of several frames or pages the first counts,
and transparent parts are white. Those for the digits and Fashion-MNIST are
bright on dark, as the data sets are; of others than square ones the central
square counts.

Of a clip the first ten seconds count; a longer one is named on standard error.

The answers go to standard output, in the order of the input. --format=jsonl
has a line {"path", "predictions": [{"class", "name", "score"}, …]} or
{"path", "error"} for each file. Files that are refused are named on standard
error. The exit status is 0 if all were answered, 1 if some were refused or
nothing could be done at all.
"""

import io
import os
import sys

from absl import app, flags

from experiments import path_flags
from scripts import predict
from scripts.shared import command

_WORKDIR = path_flags.define_path('workdir', None, 'Of the run.', required=True)
_TOP = flags.DEFINE_integer('top', 5, 'Classes to tell.', lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', None, 'Files that are computed at once.', lower_bound=1
)
_CHECKPOINT = flags.DEFINE_enum(
  'checkpoint', None, ['latest', 'best'], "If not as the run's config says."
)
_FORMAT = flags.DEFINE_enum(
  'format', 'text', ['text', 'jsonl'], 'Of the answers.'
)


def main(argv: list[str]) -> None:
  for stream in (sys.stdout, sys.stderr):  # Which may know few characters.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
  with command.running():
    try:
      counts = predict.predict(
        _WORKDIR.value,
        argv[1:],
        top=_TOP.value,
        batch_size=_BATCH_SIZE.value,
        checkpoint=_CHECKPOINT.value,
        form=_FORMAT.value,
        lines=sys.stdin.buffer,
      )
    except BrokenPipeError:  # As by `| head`; Python would flush once more.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(1)
  sys.exit(1 if counts.refused else 0)


if __name__ == '__main__':
  app.run(main)
