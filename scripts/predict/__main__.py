"""Classifies your own files with a run's checkpoint.

  python -m scripts.predict --workdir=runs/digits FILE_OR_FOLDER…
  find photos -name '*.jpg' | python -m scripts.predict --workdir=… -

The run's benchmark says which files it takes: pictures (.jpg, .png, .webp,
.gif, .bmp, .tif, .avif, .jp2, .ppm); for ModelNet40, meshes and point clouds
(.off, .obj, .stl, .ply, .npy); for AudioSet, clips and sounds (.mp4, .mkv,
.webm, .mov, .avi, .ts, .wav, .flac, .opus, .m4a, .ogg, .mp3). A folder stands
for the files in it and its subfolders that have one of these suffixes; links
are not followed, hidden files and what macOS adds are passed over, and the
number of other files is printed. A file named directly is tried whatever its
suffix. - reads paths from standard input, one per line.

Pictures are rotated as EXIF says. Only the first frame or page counts, and
transparent parts are white. Pictures for the digits and Fashion-MNIST are
bright on dark, like the data sets; only their central square counts.

Only the first ten seconds of a clip count; standard error names longer clips.

The answers go to standard output, in the order of the input. --format=jsonl
writes a line {"path", "predictions": [{"class", "name", "score"}, …]} or
{"path", "error"} per file. Standard error names refused files. The exit status
is 0 if all files were answered, 1 otherwise.
"""

import io
import os
import sys

from absl import app, flags

from experiments import path_flags
from scripts import predict
from scripts.shared import command

_WORKDIR = path_flags.define_path(
  'workdir', None, 'The directory of the run.', required=True
)
_TOP = flags.DEFINE_integer(
  'top', 5, 'How many classes to print per file.', lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', None, 'How many files are computed at once.', lower_bound=1
)
_CHECKPOINT = flags.DEFINE_enum(
  'checkpoint',
  None,
  ['latest', 'best'],
  "By default, the choice of the run's config.",
)
_FORMAT = flags.DEFINE_enum(
  'format', 'text', ['text', 'jsonl'], 'The format of the answers.'
)


@command.running()
def main(argv: list[str]) -> None:
  for stream in (sys.stdout, sys.stderr):  # Their encoding may lack characters.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
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
  except BrokenPipeError:  # As with `| head`; Python would flush again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  sys.exit(1 if counts.refused else 0)


if __name__ == '__main__':
  app.run(main)
