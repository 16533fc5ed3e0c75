"""Finds the files that a user names: one by one, in folders, in a list."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import os
import stat

from experiments.benchmarks import listing


@dataclasses.dataclass(frozen=True)
class Found:
  """A path, with the problem if it is refused already."""

  path: str
  problem: Exception | None = None


def find(
  arguments: Iterable[str],
  suffixes: Sequence[str],
  lines: Iterable[bytes],
  skipped: Counter[str],
) -> Iterator[Found]:
  """Yields the files that the arguments name, in order, without opening them.

  Args:
    arguments: files, whatever their suffix; folders, for the files in them and
      in their subfolders that have one of the suffixes, sorted by name, without
      hidden ones and what macOS adds; and '-' for `lines`.
    suffixes: in lower case; the case of a file's suffix does not matter.
    lines: further arguments, one per line.
    skipped: counts by suffix the other files in folders that are not taken,
      without links.

  Yields:
    Files. Links in folders are not followed; those with one of the suffixes
    are refused.
  """
  for argument in arguments:
    if argument == '-':
      names = (os.fsdecode(line.rstrip(b'\r\n')) for line in lines)
      for name in filter(None, names):
        yield from _find_one(name, suffixes, skipped)
    else:
      yield from _find_one(argument, suffixes, skipped)


def _find_one(
  path: str, suffixes: Sequence[str], skipped: Counter[str]
) -> Iterator[Found]:
  try:
    is_folder = stat.S_ISDIR(os.stat(path).st_mode)
  except (OSError, ValueError) as error:
    yield Found(path, error)
    return
  if is_folder:
    yield from _walk(path, suffixes, skipped)
  else:
    yield Found(path)


def _walk(
  folder: str, suffixes: Sequence[str], skipped: Counter[str]
) -> Iterator[Found]:
  try:
    with os.scandir(folder) as entries:
      inside = sorted(
        (entry for entry in entries if not listing.is_clutter(entry.name)),
        key=lambda entry: entry.name,
      )
  except OSError as error:
    yield Found(folder, error)
    return
  for entry in inside:
    suffix = os.path.splitext(entry.name)[1].lower()
    if entry.is_dir(follow_symlinks=False):
      yield from _walk(entry.path, suffixes, skipped)
    elif suffix in suffixes:
      problem = OSError('It is a link.') if entry.is_symlink() else None
      yield Found(entry.path, problem)
    elif entry.is_file(follow_symlinks=False):
      skipped[suffix or 'without a suffix'] += 1
