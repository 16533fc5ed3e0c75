"""Writes measurements as JSON, with their command, commit, time and device."""

import datetime
import json
import os
import pathlib
import platform
import re
import sys
from typing import Any

from experiments import storage, telemetry


def check(path: str) -> None:
  """Checks before long work that the file can be written to a disk.

  Raises:
    OSError: if it cannot.
  """
  storage.check(storage.path(storage.local(path)))


def header(command: str) -> dict[str, str]:
  """Returns the origin of what a command, a module of `scripts`, measures."""
  return {
    'command': ' '.join([f'python -m scripts.{command}', *sys.argv[1:]]),
    'commit': telemetry.commit(),
    'time': datetime.datetime.now(datetime.UTC).isoformat(),
  }


def write(path: str, command: str, facts: dict[str, Any]) -> None:
  """Writes the facts that a command, a module of `scripts`, measured."""
  data = header(command) | facts
  with storage.writing(path), open(path, 'w') as file:
    json.dump(data, file, indent=1)


def processor() -> str:
  """Returns the number of cores and the name of this machine's processor."""
  facts = pathlib.Path('/proc/cpuinfo')  # Linux has the full name only there.
  text = facts.read_text() if facts.exists() else ''
  name = re.search(r'^model name\s*: (.+)$', text, re.MULTILINE)
  return f'{os.cpu_count()}-core {name[1] if name else platform.processor()}'
