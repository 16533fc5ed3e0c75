"""Seals of checkpoints, which tell whether their files are intact.

Orbax commits a checkpoint by renaming it, but does not notice later damage to
its files. So each finished checkpoint gets a manifest of their SHA-256 sums.
"""

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
READERS = 8  # Files that are read at once, since stores answer slowly.
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


def _problem(path: epath.Path, sealed_sum: str) -> str | None:
  """Returns what has become of a file; None if it is unchanged."""
  try:
    is_same = _sum(path) == sealed_sum
  except FileNotFoundError:
    return 'is missing'
  except OSError as error:
    return f'is unreadable ({error.strerror or error})'
  return None if is_same else 'changed since it was written'


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
  paths = [directory / name for name in names]
  with futures.ThreadPoolExecutor(READERS) as readers:
    sealed = dict(zip(names, readers.map(_sum, paths), strict=True))
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
    sealed = dict(sorted(json.loads(manifest.read_text()).items()))
  except (ValueError, AttributeError, OSError):
    return f'{MANIFEST} is unreadable'
  paths = [directory / name for name in sealed]
  with futures.ThreadPoolExecutor(READERS) as readers:
    problems = readers.map(_problem, paths, sealed.values())
  found = zip(sealed, problems, strict=True)
  return next((f'{name} {problem}' for name, problem in found if problem), None)


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
