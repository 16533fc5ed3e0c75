"""A few words on the files that were found where others were looked for."""

import collections
from collections.abc import Iterable
import os

MAX_KINDS = 4


def summarize(names: Iterable[str]) -> str:
  """Returns how many files there are of each suffix, such as '12 .flac, 1 .md'.

  Args:
    names: of the files; folders end in a slash and do not count.

  Returns:
    The most frequent suffixes, at most MAX_KINDS of them; of as few files,
    their names.
  """
  files = [os.path.basename(name) for name in names if not name.endswith('/')]
  if len(files) <= MAX_KINDS:
    return ', '.join(map(repr, sorted(files))) or 'no files'
  suffixes = collections.Counter(
    os.path.splitext(name)[1] or 'without a suffix' for name in files
  )
  kinds = [f'{count:,} {suffix}' for suffix, count in suffixes.most_common()]
  more = ', …' if len(kinds) > MAX_KINDS else ''
  return ', '.join(kinds[:MAX_KINDS]) + more


def names_in(folder: str) -> list[str]:
  """Returns the names of the files in a folder and in folders in it."""
  return [name for _, _, names in os.walk(folder) for name in names]
