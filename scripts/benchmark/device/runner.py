"""Runs parts in processes of their own, each with a time limit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, TextIO

RESULTS, LOG = 'results.jsonl', 'log.txt'
LEAST = 5.0  # Seconds: with less time left, no part is started.


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of the measurements."""

  name: str  # One of `parts.PARTS`.
  seconds: float  # Its time limit.
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  platform: str | None = None  # The only platform that it is for.


def command(part: Part) -> list[str]:
  """Returns the command of a part's process."""
  settings = json.dumps(part.settings)
  worker = 'scripts.benchmark.device.parts'
  return [sys.executable, '-m', worker, part.name, settings]


def run(
  parts: Sequence[Part],
  folder: Path,
  seconds: float,
  header: Mapping[str, Any],
  command: Callable[[Part], list[str]] = command,
) -> None:
  """Runs the parts in order; adds a line of JSON for each result as it comes.

  A part whose process fails or exceeds its limit also leaves a line, with the
  reason, and so does a part for which no time is left.

  Args:
    parts: the most important ones first.
    folder: gets the files `RESULTS` and `LOG`; earlier lines are kept.
    seconds: the time limit of all parts together.
    header: the first line.
    command: returns the command of a part's process, which prints results as
      lines of JSON.
  """
  end = time.monotonic() + seconds
  platform = None
  with (
    (folder / RESULTS).open('a') as results,
    (folder / LOG).open('a') as log,
    tempfile.TemporaryDirectory() as cache,  # What is profiled was timed, too.
  ):
    environment = {'JAX_COMPILATION_CACHE_DIR': cache, **os.environ}

    def say(line: Mapping[str, Any]) -> None:
      text = json.dumps(line)
      print(text, flush=True)
      print(text, file=results, flush=True)

    say(header)
    for part in parts:
      if platform and part.platform and part.platform != platform:
        continue
      about = {'part': part.name, **part.settings}
      limit = min(part.seconds, end - time.monotonic())
      if limit < min(LEAST, part.seconds):
        say(about | {'failed': 'no time was left'})
        continue
      print(f'== {about}', file=log, flush=True)
      started = _process(command(part), limit, log, environment)
      with started as (process, expired):
        for result in _results(process.stdout):
          platform = result.get('platform', platform)
          say(about | result)
      if expired.is_set():
        say(about | {'failed': f'killed after its limit of {limit:.0f} s'})
      elif process.returncode:
        last = (folder / LOG).read_text().strip().splitlines()[-1]
        reason = f'status {process.returncode}: {last[:300]}'
        say(about | {'failed': reason})


@contextlib.contextmanager
def _process(
  command: list[str], limit: float, log: TextIO, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
  """Starts a process, kills it and its children after the limit, and waits.

  The event tells whether the limit was exceeded.
  """
  expired = threading.Event()

  def kill() -> None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)

  def expire() -> None:
    expired.set()
    kill()

  with subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=log,
    env=environment,
    text=True,
    start_new_session=True,
  ) as process:
    timer = threading.Timer(limit, expire)
    timer.start()
    try:
      yield process, expired
      process.wait()
    finally:
      timer.cancel()
      kill()


def _results(lines: Any) -> Iterator[dict[str, Any]]:
  """Yields the lines that are results; libraries may print others."""
  for line in lines:
    with contextlib.suppress(json.JSONDecodeError):
      result = json.loads(line)
      if isinstance(result, dict):
        yield result
