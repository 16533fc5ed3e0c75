"""JSON files of measurements, with the command, commit and time of each."""

import datetime
import json
import sys
from typing import Any

from experiments import storage, telemetry


def check(path: str) -> None:
  """Checks before long work that the file can be written, to a disk.

  Raises:
    OSError: if it cannot.
  """
  storage.check(storage.path(storage.local(path)))


def write(path: str, command: str, facts: dict[str, Any]) -> None:
  """Writes what the command, a module of scripts, found out."""
  data = {
    'command': ' '.join([f'python -m scripts.{command}', *sys.argv[1:]]),
    'commit': telemetry.commit(),
    'time': datetime.datetime.now(datetime.UTC).isoformat(),
    **facts,
  }
  with storage.writing(path), open(path, 'w') as file:
    json.dump(data, file, indent=1)
