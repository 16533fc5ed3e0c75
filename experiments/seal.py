"""Seals of checkpoints, which tell those that are as they were written.

Orbax commits a checkpoint by renaming it, but does not notice later damage to
its files. So each finished one gets a manifest of their SHA-256 sums.
"""

from concurrent import futures
import hashlib
import json
import logging

from etils import epath

from experiments import storage

log = logging.getLogger(__name__)

MANIFEST = 'manifest.json'
DAMAGED = 'damaged'  # Where damaged checkpoints are moved to.
SCORE = 'metrics'  # Orbax's name for the item that has the metrics.
READERS = 8  # Files that are read at once for their sums.


def _sums(directory: epath.Path) -> dict[str, str]:
  """SHA-256 of each file below a directory, by its relative path."""

  def digest(path: epath.Path) -> str:
    with path.open('rb') as f:
      return hashlib.file_digest(f, 'sha256').hexdigest()

  paths = [
    path
    for path in storage.files(directory)
    if path.name not in (MANIFEST, f'{MANIFEST}.tmp')
  ]
  # Side by side: an object in a store takes several round trips.
  with futures.ThreadPoolExecutor(READERS) as readers:
    digests = readers.map(digest, paths)
    names = (str(path.relative_to(directory)) for path in paths)
    return dict(zip(names, digests, strict=True))


def write(directory: epath.Path) -> None:
  """Writes the manifest of a finished checkpoint, which is read for it."""
  sums = _sums(directory)
  storage.write(directory / MANIFEST, json.dumps(sums, indent=1))


def damage(directory: epath.Path) -> str | None:
  """Says what is wrong with a checkpoint; None if it is as it was sealed."""
  manifest = directory / MANIFEST
  if not manifest.exists():
    return 'it was never finished'
  try:
    expected = json.loads(manifest.read_text())
  except ValueError:
    return f'{MANIFEST} is unreadable'
  found = _sums(directory)
  changed = [
    name
    for name in sorted(expected.keys() | found.keys())
    if expected.get(name) != found.get(name)
    # See `checkpoint.Checkpoints.add_score`.
    and (name in expected or not name.startswith(SCORE))
  ]
  if changed:
    return f'{changed[0]} changed since it was written'
  return None


def sound_steps(directory: epath.Path, *, set_aside: bool) -> list[int]:
  """Steps with an intact checkpoint, the newest first.

  Args:
    directory: of all checkpoints.
    set_aside: whether to move the others out of the way, so that training can
      write their steps again.

  Returns:
    The steps; only what process 0 sees counts.
  """
  if not directory.exists():
    return []
  steps = sorted(
    (int(p.name) for p in directory.iterdir() if p.name.isdecimal()),
    reverse=True,
  )
  sound = []
  for step in steps:
    problem = damage(directory / str(step))
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
