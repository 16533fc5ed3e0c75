"""Classifies users' own files with a run's checkpoint."""

from collections import Counter
from collections.abc import Iterable, Sequence
import dataclasses
import json
import sys
from typing import TextIO

import tqdm

from experiments import saved
from scripts.predict import paths
from scripts.predict.answers import Answer, Classifier

MAX_BATCH = 32  # Unless a batch size is given.


@dataclasses.dataclass
class Counts:
  """How many files were answered and refused."""

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
  """Classifies files with the run's checkpoint and writes the answers.

  Args:
    workdir: the directory of the run.
    arguments: the files, as for `paths.find`.
    top: how many classes to write per file, the best first.
    batch_size: how many files are computed at once; None for the batch size
      of the run's evaluation, but at most MAX_BATCH.
    checkpoint: 'latest' or 'best'; None for the choice of the run's config.
    form: 'text' or 'jsonl'.
    lines: standard input, for the argument '-'.
    output: where answers go; None for standard output.
    errors: where refusals and the progress go; None for standard error.

  Returns:
    How many files were answered and refused.

  Raises:
    FileNotFoundError: if there is no run, no checkpoint or no file.
    ValueError: if the run is of another version.
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
  state = saved.restore(run, workdir)
  names = saved.class_names(run, workdir)
  classifier = Classifier(run, state, names, top, size)
  counts = Counts()
  hidden = not errors.isatty()
  with tqdm.tqdm(
    total=len(files), unit=' files', file=errors, disable=hidden
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
  """Returns a line in ASCII; bytes outside UTF-8 are \\udc80 to \\udcff."""
  if answer.refusal is not None:
    return json.dumps({'path': answer.path, 'error': answer.refusal})
  predictions = [
    {'class': p.index, 'name': p.name, 'score': p.score}
    for p in answer.predictions
  ]
  return json.dumps({'path': answer.path, 'predictions': predictions})


def as_text(answer: Answer) -> str:
  """Returns the path, then a line per class."""
  lines = [
    f'{100 * p.score:8.2f} %  {printable(p.name)}' for p in answer.predictions
  ]
  return '\n'.join([printable(answer.path), *lines])


def printable(text: str) -> str:
  """Escapes non-printable characters, which could control a terminal."""
  return ''.join(
    x if x.isprintable() else x.encode('unicode_escape').decode() for x in text
  )
