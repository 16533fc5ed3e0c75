"""The hold on a workdir: one launch at a time trains there.

The hold is a small file in the workdir, or an object if that is in a store. Its
holder renews it. A launch that finds one takes it over if the holder is dead:
at once if both are on the same machine, which knows its processes, and
otherwise when the file has not changed for `LEASE` seconds. The file system
only has to create, read and replace a file, so this works on NFS and Lustre,
too, where locks may be missing.
"""

from collections.abc import Iterator
import contextlib
import datetime
import itertools
import json
import logging
import os
import pathlib
import socket
import sys
import threading
import time
from typing import Any
import uuid

from etils import epath
import jax
from orbax.checkpoint import multihost
import psutil

from experiments import storage

log = logging.getLogger(__name__)

FILE = 'held_by.json'
LEASE = 120.0  # Seconds without a renewal after which a hold expires.
RENEWAL = 15.0  # Seconds between two renewals, and between two checks for one.
SETTLING = 0.5  # Seconds after which two launches that take over see who did.
_turns = itertools.count()


class WorkdirInUseError(OSError):
  """Another launch trains in the workdir; the message says which."""


@contextlib.contextmanager
def holding(workdir: str) -> Iterator[None]:
  """Keeps other launches out of a workdir, for as long as the context lasts.

  All processes of a run enter the context together; process 0 has the hold. The
  workdir is created if it does not exist.

  Raises:
    WorkdirInUseError: in all processes, if another launch trains there.
    OSError: in all processes, if the hold cannot be written.
  """
  path = storage.absolute(storage.path(workdir)) / FILE
  hold, problem = None, None
  if jax.process_index() == 0:
    try:
      hold = _Hold(path)
    except OSError as error:
      problem = error
  problem = _told_by_the_first(problem)
  if problem is not None:
    raise problem
  try:
    yield
  finally:
    if hold is not None:
      hold.release()


def _told_by_the_first(problem: OSError | None) -> OSError | None:
  """Returns in all processes the error that process 0 has met, if any.

  The coordinator passes it on, because the others may have to wait for longer
  than a collective operation allows.
  """
  if jax.process_count() == 1:
    return problem
  client: Any = multihost.get_jax_distributed_client()
  key = f'hold/{next(_turns)}'
  if jax.process_index() == 0:
    client.key_value_set(key, str(problem or 'taken'))
    return problem
  said = client.blocking_key_value_get(key, round(1000 * (2 * LEASE + 600)))
  return None if said == 'taken' else WorkdirInUseError(said)


class _Hold:
  """The hold of this process, renewed by a thread until it is released."""

  def __init__(self, path: epath.Path):
    """Takes the hold. Raises WorkdirInUseError if another launch has it."""
    self._path = path
    self._record: dict[str, Any] = {
      'token': uuid.uuid4().hex,
      'host': socket.gethostname(),
      'process': os.getpid(),
      'since': datetime.datetime.now(datetime.UTC).isoformat('T', 'seconds'),
      'machine': _machine(),
      'started': psutil.Process().create_time(),
      'renewals': 0,
    }
    with storage.writing(path.parent):
      path.parent.mkdir(parents=True, exist_ok=True)
    if not storage.create(path, self._text()):
      _wait_until_free(path)
      storage.write(path, self._text())
      time.sleep(SETTLING)
    # Two may have taken it over at once: the last to write has it.
    found = _read(path)
    if found is None or found['token'] != self._record['token']:
      raise _in_use(path, found)
    self._released = threading.Event()
    self._thread = threading.Thread(target=self._keep, name='hold', daemon=True)
    self._thread.start()

  def release(self) -> None:
    self._released.set()
    self._thread.join()
    try:
      if self._is_ours():
        self._path.unlink(missing_ok=True)
    except OSError as error:  # The hold expires by itself.
      log.warning('%s cannot be removed: %s', self._path, error)

  def _text(self) -> str:
    return json.dumps(self._record, indent=1)

  def _is_ours(self) -> bool:
    found = _read(self._path)
    return found is None or found['token'] == self._record['token']

  def _keep(self) -> None:
    """Renews the hold; ends the process if another launch has taken it."""
    was_renewed = True
    while not self._released.wait(RENEWAL):
      try:
        if not self._is_ours():
          _end(
            f'Error: this process stood still for more than {LEASE:.0f} s, and'
            f' another launch has taken {self._path.parent}.'
          )
          return
        self._record['renewals'] += 1
        storage.write(self._path, self._text())
        was_renewed = True
      except OSError as error:  # If the run cannot write either, it ends.
        if was_renewed:
          log.warning('The hold cannot be renewed: %s', error)
        was_renewed = False


def _end(reason: str) -> None:
  print(reason, file=sys.stderr, flush=True)
  os._exit(1)


def _wait_until_free(path: epath.Path) -> None:
  """Waits until it is clear that the holder is dead.

  Raises:
    WorkdirInUseError: if the holder lives: on this machine, or elsewhere, where
      it renews the hold.
  """
  seen = _read(path)
  if _lives_here(seen):
    raise _in_use(path, seen)
  if seen is not None and seen['machine'] == _machine():
    log.info('%s was left by a process that is gone.', path)
    return
  log.info(
    '%s Checking for %.0f s whether it still runs.', _in_use(path, seen), LEASE
  )
  # This counts checks, not time: a disk or a store that does not answer delays
  # the holder, too.
  for _ in range(round(LEASE / RENEWAL)):
    time.sleep(RENEWAL)
    found = _read(path)
    if found is None:
      return
    if _lives_here(found) or (seen is not None and found != seen):
      raise _in_use(path, found)
    seen = found


def _lives_here(record: dict[str, Any] | None) -> bool:
  """Returns whether the holder is a live process of this machine."""
  if record is None or record['machine'] != _machine():
    return False
  try:
    process = psutil.Process(record['process'])
    return (
      process.status() != psutil.STATUS_ZOMBIE
      # Clocks are corrected; process numbers are not reused within seconds.
      and abs(process.create_time() - record['started']) < 2
    )
  except psutil.NoSuchProcess:
    return False


def _machine() -> str:
  """Names the boot and the container, in which process numbers are unique."""
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):  # Not Linux.
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id')
    parts += [boot.read_text().strip(), os.readlink('/proc/self/ns/pid')]
  return ' '.join(parts)


def _read(path: epath.Path) -> dict[str, Any] | None:
  """Reads a hold; None if there is none, or it is being written."""
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, ValueError):
    return None


def _in_use(
  path: epath.Path, record: dict[str, Any] | None
) -> WorkdirInUseError:
  record = record or {}
  return WorkdirInUseError(
    f'{path.parent} is in use: process {record.get("process", "?")} on'
    f' {record.get("host", "another machine")} has trained there since'
    f' {record.get("since", "just now")}. Wait for its end, or give another'
    f' --workdir. If it was killed, its hold expires within {LEASE:.0f} s.'
  )
