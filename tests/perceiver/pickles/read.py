"""Reads the pickles in a folder and reports what that did, as JSON.

  python -m tests.perceiver.pickles.read FOLDER

The process may take 100 MB more than it has after its imports. Its hook is told
of every import, compilation, file and process, and cannot be taken away.
"""

import json
import pathlib
import resource
import sys
import time

from perceiver import weight_files
from perceiver.importers import pystate

LIMIT = 100 << 20


def _limit_memory():
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  limit = pages * resource.getpagesize() + LIMIT
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read(path):
  try:
    pystate.read(path)
  except weight_files.WeightsError as error:
    return str(error)
  return None


def main(folder):
  paths = sorted(pathlib.Path(folder).iterdir())
  events, results, is_on = [], {}, True
  modules = set(sys.modules)
  _limit_memory()

  def record(event, arguments):
    if is_on:
      events.append((event, *map(str, arguments[:2])))

  sys.addaudithook(record)
  for path in paths:
    begin = time.perf_counter()
    results[path.name] = _read(path), time.perf_counter() - begin
  is_on = False
  print(
    json.dumps(
      {
        'results': results,
        'events': events,
        'modules': sorted(set(sys.modules) - modules),
      }
    )
  )


if __name__ == '__main__':
  main(sys.argv[1])
