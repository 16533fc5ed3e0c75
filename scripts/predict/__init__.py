"""Classes of people's own files, by a run's checkpoint."""

from collections import Counter
from collections.abc import Iterable, Sequence
import dataclasses
import json
import sys
from typing import TextIO

import tqdm

from experiments import saved
from scripts.predict import answers, paths
from scripts.predict.answers import Answer

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


def as_json(answer: Answer) -> str:
  """A line, in ASCII: bytes of a path that are no UTF-8 are \\udc80 to ff."""
  if answer.refusal is not None:
    return json.dumps({'path': answer.path, 'error': answer.refusal})
  predictions = [
    {'class': p.index, 'name': p.name, 'score': p.score}
    for p in answer.predictions
  ]
  return json.dumps({'path': answer.path, 'predictions': predictions})


def as_text(answer: Answer) -> str:
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
