"""Descriptions of existing and missing files, for error messages."""

from collections import Counter
from collections.abc import Iterable, Sequence
import os

from experiments import storage
from experiments.errors import DataNotFoundError

SHOWN = 5  # Names, or kinds of files, in a message.


def shown(names: Sequence[str]) -> str:
  """Returns the first names, and how many more there are."""
  more = len(names) - SHOWN
  return ', '.join(names[:SHOWN]) + (f' and {more} more' if more > 0 else '')


def at(path: str) -> str:
  """Returns a sentence that says what is at a path."""
  if os.path.isfile(path):
    return f'{path} is a file.'
  try:
    names = sorted(
      entry.name + '/' * entry.is_dir()
      for entry in os.scandir(path)
      if not entry.name.startswith('.')
    )
  except OSError as error:
    return f'{path} cannot be read: {error.strerror}.'
  if not names:
    return f'{path} is empty.'
  return f'{path} has {shown(names)}.'


def check_whole(folder: str, files: Sequence[str]) -> None:
  """Raises DataNotFoundError if a folder lacks some of its files."""
  there = {path.name for path in storage.path(folder).iterdir()}
  if lost := [x for x in files if os.path.basename(x) not in there]:
    raise DataNotFoundError(
      f'{folder} lacks {len(lost)} of its files, the first one {lost[0]}.'
    )


def summary(names: Iterable[str]) -> str:
  """Counts files by suffix, the most frequent first, as '12 .flac, 1 .md'.

  Names that end in a slash are of folders, which do not count. Returns the
  names if there are few files.
  """
  files = [os.path.basename(name) for name in names if not name.endswith('/')]
  if len(files) < SHOWN:
    return ', '.join(map(repr, sorted(files))) or 'no files'
  suffixes = Counter(
    os.path.splitext(name)[1] or 'without a suffix' for name in files
  )
  kinds = [f'{count:,} {suffix}' for suffix, count in suffixes.most_common()]
  more = ', …' if len(kinds) > SHOWN else ''
  return ', '.join(kinds[:SHOWN]) + more


def inside(folder: str) -> str:
  """Returns the `summary` of all files below a folder."""
  return summary(name for _, _, names in os.walk(folder) for name in names)


def is_clutter(name: str) -> bool:
  """Returns whether a file, below a folder or in an archive, is no data.

  Such are hidden files, and the copies in `__MACOSX/` and `._NAME` in which
  macOS keeps what other systems cannot store.
  """
  return any(
    part == '__MACOSX' or part.startswith('.') for part in name.split('/')
  )
