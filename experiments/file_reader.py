"""People's own files, read as records of a benchmark."""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
from typing import Any

from experiments.errors import DamagedRecordError

# Yields each path, in order, with its record or with why there is none: a
# DamagedRecordError or an OSError. The label of such a record means nothing.
Read = Callable[[Iterable[str]], Iterator[tuple[str, Any | Exception]]]


@dataclasses.dataclass(frozen=True)
class FileReader:
  """How a benchmark reads files that are not of its data set."""

  suffixes: tuple[str, ...]  # Files with these are taken from a folder.
  read: Read


def one_by_one(read_file: Callable[[str], Any]) -> Read:
  """Returns a `FileReader.read` that reads one file after the other.

  Args:
    read_file: returns the record of a path, or raises DamagedRecordError or
      OSError.
  """

  def read(paths: Iterable[str]) -> Iterator[tuple[str, Any | Exception]]:
    for path in paths:
      try:
        yield path, read_file(path)
      except (DamagedRecordError, OSError) as error:
        yield path, error

  return read


def _refuse(path: str) -> Any:
  raise DamagedRecordError(f'{path}: nothing is read from files here.')


NO_FILES = FileReader((), one_by_one(_refuse))
