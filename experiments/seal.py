"""Seals of checkpoints, which tell whether their files are intact.

Orbax commits a checkpoint by renaming it, but does not notice later damage to
its files. So each finished checkpoint gets a manifest of their SHA-256 sums.
"""

from collections.abc import Callable, Iterable
from concurrent import futures
import fnmatch
import hashlib
import json
import logging

from etils import epath

from experiments import storage

log = logging.getLogger(__name__)

MANIFEST = 'manifest.json'
DAMAGED = 'damaged'  # Where damaged checkpoints are moved to.
SCORE = 'metrics'  # Orbax's name for a checkpoint's metrics.
READERS = 8  # Files that are read at once for their sums.
# Files that desktops, editors and NFS add to folders and remove again. They are
# never sealed.
STRAYS = (
  *('.DS_Store', '._*', 'Thumbs.db', 'desktop.ini'),
  *('.nfs*', '*~', '.#*', '#*#', '.*.sw?'),
)


def _sum(path: epath.Path) -> str:
  """Returns a file's SHA-256. Raises OSError if it cannot be read."""
  with path.open('rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def _sum_or_problem(path: epath.Path) -> str:
  """Returns a file's SHA-256, or 'missing' or 'unreadable (…)'."""
  try:
    return _sum(path)
  except FileNotFoundError:
    return 'missing'
  except OSError as error:
    return f'unreadable ({error.strerror or error})'


def _of_each(
  function: Callable[[epath.Path], str], paths: Iterable[epath.Path]
) -> list[str]:
  """Maps a function over paths in threads, since stores answer slowly."""
  with futures.ThreadPoolExecutor(READERS) as readers:
    return list(readers.map(function, paths))


def write(directory: epath.Path, part: str = '') -> None:
  """Reads a finished checkpoint and writes its manifest.

  Args:
    directory: the checkpoint's folder.
    part: a folder that was added to a sealed checkpoint; '' to seal all of one.

  Raises:
    OSError: if a file cannot be read; nothing is sealed then.
  """
  names = [
    str(path.relative_to(directory))
    for path in storage.files(directory / part)
    if path.name not in (MANIFEST, f'{MANIFEST}.tmp')
    and not any(fnmatch.fnmatch(path.name, stray) for stray in STRAYS)
  ]
  sums = _of_each(_sum, (directory / name for name in names))
  sealed = dict(zip(names, sums, strict=True))
  if part:
    sealed = json.loads((directory / MANIFEST).read_text()) | sealed
  storage.write(directory / MANIFEST, json.dumps(sealed, indent=1))


def find_damage(directory: epath.Path) -> str | None:
  """Returns what is wrong with a checkpoint; None if it is intact.

  Only files that the manifest names count: others may come and go.
  """
  manifest = directory / MANIFEST
  if not manifest.exists():
    return 'it was never finished'
  try:
    sealed = json.loads(manifest.read_text())
    wanted = dict(sorted(sealed.items()))
  except (ValueError, AttributeError, OSError):
    return f'{MANIFEST} is unreadable'
  found = _of_each(_sum_or_problem, (directory / name for name in wanted))
  for (name, sum_then), sum_now in zip(wanted.items(), found, strict=True):
    if sum_now.startswith(('missing', 'unreadable')):
      return f'{name} is {sum_now}'
    if sum_now != sum_then:
      return f'{name} changed since it was written'
  return None


def sound_steps(directory: epath.Path, *, set_aside: bool) -> list[int]:
  """Returns the steps of intact checkpoints, the newest first.

  Args:
    directory: the folder of all checkpoints.
    set_aside: whether to move damaged ones away, so that training can write
      their steps again.
  """
  if not directory.exists():
    return []
  steps = sorted(
    (int(p.name) for p in directory.iterdir() if p.name.isdecimal()),
    reverse=True,
  )
  sound = []
  for step in steps:
    problem = find_damage(directory / str(step))
    if problem is None:
      sound.append(step)
      continue
    log.warning(
      'Checkpoint %d is damaged (%s); falling back to the one before.',
      step,
      problem,
    )
    if set_aside:
      target = directory.parent / DAMAGED / str(step)
      storage.move(directory / str(step), target)
      log.warning('It was moved to %s.', target)
  return sound
