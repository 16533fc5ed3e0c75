"""Decodes people's own clips, in processes that may die (see `media`)."""

from collections.abc import Iterable, Iterator
import contextlib
import itertools
import logging
import os
from typing import Any

import numpy as np

from experiments.benchmarks.audioset import parts, preparation, source
from experiments.benchmarks.audioset.media import decoding, streams
from experiments.benchmarks.audioset.source import Record
from experiments.benchmarks.audioset.workers import Job, Lost, Workers
from experiments.benchmarks.images import files
from experiments.errors import DamagedRecordError, FAULTS

log = logging.getLogger(__name__)


def decode(numbered: tuple[int, str]) -> tuple[Record, bool] | str:
  """Decodes a file to a record without labels; or says why there is none.

  With the record it returns whether the file goes on after it.
  """
  _, path = numbered
  try:
    files.check_regular(path)
    frames, audio = decoding.decode(os.path.abspath(path))
    longest = source.MAX_SECONDS + parts.TOLERANCE
    goes_on = True
    with contextlib.suppress(streams.MediaError):  # It is damaged further on.
      goes_on = streams.length(os.path.abspath(path), longest) >= longest
  except FAULTS:  # Such as a version of PyAV without a function.
    raise
  except Exception as error:  # Damaged data may raise almost any other.
    if isinstance(error, OSError) and error.strerror:
      return error.strerror
    known = isinstance(error, streams.MediaError | DamagedRecordError)
    return str(error) if known else f'{type(error).__name__}: {error}'
  record = Record(
    id=os.path.basename(path),
    labels=np.zeros(0, np.int64),
    frames=frames,
    audio=audio,
  )
  return record, goes_on


def read(
  paths: Iterable[str], num_processes: int
) -> Iterator[tuple[str, Record | Exception]]:
  """Decodes at most the first ten seconds of each file, some files ahead.

  The log names files that go on after that. Yields each path with its record or
  the DamagedRecordError, in order. Raises OSError if processes cannot start.
  """
  numbered = enumerate(paths)
  ahead = 2 * num_processes  # No more records are kept, however long one takes.
  done: dict[int, tuple[str, Any]] = {}
  given = 0
  with Workers(num_processes, __name__) as workers:
    for job, result in workers.run(
      _job(x) for x in itertools.islice(numbered, ahead)
    ):
      number, path = job.argument
      done[number] = path, result
      while given in done:
        path, result = done.pop(given)
        given += 1
        if isinstance(result, Lost):
          result = result.reason
        if isinstance(result, str):
          yield path, DamagedRecordError(result)
        else:
          record, goes_on = result
          if goes_on:
            log.warning(
              '%r is longer than %d s; only its beginning counts.',
              path,
              source.MAX_SECONDS,
            )
          yield path, record
        for another in itertools.islice(numbered, 1):
          workers.submit(_job(another))


def _job(numbered: tuple[int, str]) -> Job:
  return Job(decode, numbered, preparation.SECONDS, preparation.PATIENCE)
