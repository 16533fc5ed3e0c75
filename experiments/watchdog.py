"""Ends a process that stands still, so that a scheduler can start it again.

A thread watches what the run says it is doing. faulthandler watches the thread:
it needs no interpreter lock, so it works even while a library hangs with the
lock, when neither Python nor a signal's handler runs. faulthandler alone would
exit with status 1 instead of 75 and record no reason, which
tests/experiments/test_watchdog.py shows.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import faulthandler
import functools
import logging
import math
import os
import sys
import threading
import time
from typing import Any

import jax

log = logging.getLogger(__name__)

STATUS = os.EX_TEMPFAIL  # 75, the exit status: try again.
_STDERR = 2  # Not sys.stderr, which may have been replaced.
_INTERVAL = 1.0  # Seconds between two checks.
_GRACE = 5.0  # Seconds after the limit, for the thread to act first.


@dataclasses.dataclass(frozen=True)
class Limits:
  """Seconds that each activity may take; 0: no limit."""

  step: float  # Also a batch of an evaluation, a save, waiting for data.
  compilation: float
  restoring: float  # Also everything else before the first step.

  def of(self, activity: str) -> float:
    limits = {
      'compilation': self.compilation,
      'start': self.restoring,
      'restoring': self.restoring,
    }
    return limits.get(activity, self.step) or math.inf


class _Watchdog:
  def __init__(self, limits: Limits, on_end: Callable[[str], None]):
    self._limits = limits
    self._on_end = on_end
    self._stopped = threading.Event()
    self.begin('start')
    self._look()
    self._thread = threading.Thread(
      target=self._watch, name='watchdog', daemon=True
    )
    self._thread.start()

  def begin(self, activity: str) -> None:
    self._current = activity, time.monotonic()

  def stop(self) -> None:
    self._stopped.set()
    self._thread.join()

  def _watch(self) -> None:
    while not self._stopped.wait(_INTERVAL):
      self._look()
    faulthandler.cancel_dump_traceback_later()

  def _look(self) -> None:
    activity, since = self._current
    elapsed = time.monotonic() - since
    limit = self._limits.of(activity)
    if limit < math.inf:
      # faulthandler ends the process, if no later check puts this off.
      left = max(limit - elapsed, _INTERVAL) + _GRACE
      faulthandler.dump_traceback_later(left, exit=True, file=_STDERR)
    else:
      faulthandler.cancel_dump_traceback_later()
    if elapsed > limit:
      self._end(activity, elapsed)

  def _end(self, activity: str, elapsed: float) -> None:
    reason = (
      f'The watchdog ended the process: {activity} has taken {elapsed:.0f} s,'
      f' and may take {self._limits.of(activity):g}. Run the same command to go'
      ' on.'
    )
    faulthandler.dump_traceback(file=_STDERR)
    print(f'Error: {reason}', file=sys.stderr, flush=True)
    # If this hangs as well, faulthandler ends the process.
    self._on_end(reason)
    os._exit(STATUS)


_current: _Watchdog | None = None


@contextlib.contextmanager
def watching(limits: Limits, on_end: Callable[[str], None]) -> Iterator[None]:
  """Ends the process if an activity that `begin` names takes too long.

  Just before the end, `on_end` is called with the reason.
  """
  global _current
  _current = _Watchdog(limits, on_end)
  try:
    yield
  finally:
    _current.stop()
    _current = None


def begin(activity: str) -> None:
  """Says what the process does from now on; its time starts at zero.

  The activity is 'compilation', 'restoring', or any text, which has the limit
  of a step. Without `watching` this does nothing.
  """
  if _current is not None:
    _current.begin(activity)


def compiles_first(function: Callable[..., Any]) -> Callable[..., Any]:
  """Wraps a jitted function: its first call has the limit of a compilation.

  The first call waits for its result, because processes that compile faster
  wait there for the others.
  """
  is_compiled = False

  @functools.wraps(function)
  def call(*arguments: Any) -> Any:
    nonlocal is_compiled
    if is_compiled:
      return function(*arguments)
    begin('compilation')
    result = jax.block_until_ready(function(*arguments))
    is_compiled = True
    return result

  return call
