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

from collections import Counter
from collections.abc import Iterable, Sequence
import dataclasses
import io
import json
import os
import sys
from typing import TextIO, TYPE_CHECKING

from absl import app, flags
import tqdm

from experiments import path_flags
from scripts.prediction import paths
from scripts.shared import command

if TYPE_CHECKING:  # Processes that decode clips pass here too, without JAX.
  from scripts.prediction.answers import Answer


MAX_BATCH = 32  # Where none is asked for.


@dataclasses.dataclass
class Counts:
  """Of files."""

  answered: int = 0
  refused: int = 0


def predict(
  workdir: str,
  arguments: Sequence[str],
  *,
  top: int = 5,
  batch_size: int | None = None,
  checkpoint: str | None = None,
  form: str = 'text',
  lines: Iterable[bytes] = (),
  output: TextIO | None = None,
  errors: TextIO | None = None,
) -> Counts:
  """Writes what the run's checkpoint says of the files.

  Args:
    workdir: of the run.
    arguments: as of `paths.find`.
    top: classes to tell of each file, the best first.
    batch_size: files that are computed at once; None: as in the run's
      evaluation, but at most MAX_BATCH.
    checkpoint: 'latest' or 'best'; None: as the run's config says.
    form: 'text' or 'jsonl'.
    lines: standard input, for the argument '-'.
    output: where answers go; None: standard output.
    errors: where refusals and the progress go; None: standard error.

  Returns:
    How many were answered and refused.

  Raises:
    FileNotFoundError: if there is no run, no checkpoint or no file.
    ValueError: if the run is none of this version.
  """
  from experiments import saved
  from scripts.prediction import answers

  output, errors = output or sys.stdout, errors or sys.stderr
  run = saved.open_run(workdir, checkpoint=checkpoint)
  suffixes = run.task.file_reader.suffixes
  skipped: Counter[str] = Counter()
  files = list(paths.find(arguments, suffixes, lines, skipped))
  others = ', '.join(f'{count} {x}' for x, count in skipped.most_common(5))
  if not files:
    where = f' in {", ".join(arguments)}' if arguments else ''
    raise FileNotFoundError(
      f'No files to classify{where}: name some, or folders of them'
      f' ({", ".join(suffixes)}).' + f' Found: {others}.' * bool(others)
    )
  if others:
    print(
      f'Not taken from folders: {printable(others)}; only'
      f' {", ".join(suffixes)} are.',
      file=errors,
    )
  size = batch_size or min(run.config.eval.batch_size, MAX_BATCH)
  classifier = answers.load(run, workdir, top, size)
  counts = Counts()
  is_seen = errors.isatty()
  with tqdm.tqdm(
    total=len(files), unit=' files', file=errors, disable=not is_seen
  ) as bar:
    for answer in classifier.answers(files):
      if answer.refusal is None:
        counts.answered += 1
      else:
        counts.refused += 1
        line = f'Refused {printable(answer.path)}: {printable(answer.refusal)}'
        bar.write(line, file=errors)
      if form == 'jsonl':
        bar.write(as_json(answer), file=output)
      elif answer.refusal is None:
        bar.write(as_text(answer), file=output)
      bar.update()
  output.flush()
  if counts.refused:
    print(f'{counts.answered} answered, {counts.refused} refused.', file=errors)
  return counts


def as_json(answer: 'Answer') -> str:
  """A line, in ASCII: bytes of a path that are no UTF-8 are \\udc80 to ff."""
  if answer.refusal is not None:
    return json.dumps({'path': answer.path, 'error': answer.refusal})
  predictions = [
    {'class': p.index, 'name': p.name, 'score': p.score}
    for p in answer.predictions
  ]
  return json.dumps({'path': answer.path, 'predictions': predictions})


def as_text(answer: 'Answer') -> str:
  """The path, then a line for each class."""
  lines = [
    f'{100 * p.score:8.2f} %  {printable(p.name)}' for p in answer.predictions
  ]
  return '\n'.join([printable(answer.path), *lines])


def printable(text: str) -> str:
  """Text that does nothing to a terminal: what is no sign is escaped."""
  return ''.join(
    x if x.isprintable() else x.encode('unicode_escape').decode() for x in text
  )


def main(argv: list[str]) -> None:
  for stream in (sys.stdout, sys.stderr):  # Which may know few characters.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
  with command.running():
    try:
      counts = predict(
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
  _WORKDIR = path_flags.define_path(
    'workdir', None, 'Of the run.', required=True
  )
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
  app.run(main)
