"""Descriptions of existing and missing files, for error messages."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
import os

from experiments import storage
from experiments.errors import DataNotFoundError

_SHOWN = 5  # Names, or kinds of files, in a message.


def shown(names: Sequence[str]) -> str:
  """Returns the first names, and how many more there are."""
  more = len(names) - _SHOWN
  return ', '.join(names[:_SHOWN]) + (f' and {more} more' if more > 0 else '')


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
  if len(files) < _SHOWN:
    return ', '.join(map(repr, sorted(files))) or 'no files'
  suffixes = Counter(
    os.path.splitext(name)[1] or 'without a suffix' for name in files
  )
  kinds = [f'{count:,} {suffix}' for suffix, count in suffixes.most_common()]
  more = ', …' if len(kinds) > _SHOWN else ''
  return ', '.join(kinds[:_SHOWN]) + more


def inside(folder: str) -> str:
  """Returns the `summary` of all files below a folder."""
  return summary(name for _, _, names in os.walk(folder) for name in names)


def by_suffix(
  folders: Iterable[str], root: str, is_taken: Callable[[str], bool]
) -> str:
  """Counts by suffix the files that are not taken.

  Args:
    folders: where to look, including all folders in them. Links to folders are
      not followed.
    root: a folder above them all; paths in the message are relative to it.
    is_taken: whether a file is taken, by its path from `root`.

  Returns:
    '240 .png, such as a/1.png; 2 .jpeg, such as a/b/1.JPEG', the most frequent
    suffixes first; '' if all files are taken.
  """
  numbers: Counter[str] = Counter()
  examples: dict[str, str] = {}
  for folder in folders:
    for path, subfolders, names in os.walk(folder):
      subfolders.sort()
      for name in sorted(names):
        relative = os.path.relpath(os.path.join(path, name), root)
        if name.startswith('.') or is_taken(relative):
          continue
        suffix = os.path.splitext(name)[1].lower() or 'without a suffix'
        numbers[suffix] += 1
        examples.setdefault(suffix, relative)
  return '; '.join(
    f'{number} {suffix}, such as {examples[suffix]}'
    for suffix, number in numbers.most_common(_SHOWN)
  )
