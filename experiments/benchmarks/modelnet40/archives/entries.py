"""Files in an archive or a folder, and the limits of what is read of them."""

from collections.abc import Callable, Iterable
import dataclasses
import re

MAX_BYTES = 512 * 2**20  # Of one entry, unpacked.
MAX_RATIO = 200  # Unpacked to packed; meshes in text reach about 10.
SMALL = 2**20  # Bytes that are harmless at any ratio.
MAX_ENTRIES = 200_000  # ModelNet40 has 12,311 shapes.


class ArchiveError(ValueError):
  """An archive, or an entry of one, that cannot or should not be read."""


@dataclasses.dataclass(frozen=True)
class Entry:
  """A file, which is not read yet."""

  name: str  # With slashes, below the archive or folder.
  position: int  # Entries are read fastest in this order.
  read: Callable[[], bytes]  # Or ArchiveError, without the entry's name.


def check_names(names: Iterable[str]) -> None:
  """Raises ArchiveError for names that come twice or lead out of a folder."""
  seen = set()
  for name in names:
    path = name.replace('\\', '/')
    problem = None
    if path.startswith('/') or re.match('[A-Za-z]:', path):
      problem = 'has an absolute name'
    elif '..' in path.split('/'):
      problem = 'leads out of the archive'
    elif name in seen:
      problem = 'is there twice'
    if problem:
      raise ArchiveError(f'entry {name[:80]!r} {problem}.')
    seen.add(name)


def check_count(count: int) -> None:
  """Raises ArchiveError for more entries than data sets of shapes have."""
  if count > MAX_ENTRIES:
    raise ArchiveError(
      f'it has more than {MAX_ENTRIES:,} files; give the data set alone.'
    )


def check_size(size: int, packed: int) -> None:
  """Raises ArchiveError for a size that would fill the memory."""
  if size > MAX_BYTES or size > SMALL + MAX_RATIO * packed:
    raise ArchiveError(
      f'it claims {size} bytes, of {packed} bytes packed: too many.'
    )
