"""Errors in data, and how to tell them from faults of the code."""

import traceback

# What wrong calls and wrong names raise.
FAULTS = (AssertionError, AttributeError, ImportError, NameError, TypeError)


class DataNotFoundError(FileNotFoundError):
  """A data set is not where it was looked for; says how to prepare it."""


class PreparationError(ValueError):
  """A data set cannot be prepared; says why."""


class DamagedRecordError(ValueError):
  """A record cannot be decoded: it is skipped, counted and named."""


class WorkersDiedError(OSError):
  """Processes that decode data die, however often they are started."""


class DamagedDataError(ValueError):
  """Too many records of a data set are damaged to go on."""


def is_fault(error: BaseException) -> bool:
  """Returns whether an error is a fault of this code, not of what it reads.

  Readers in Python raise nearly any error on damaged data, but inside their own
  modules. One of FAULTS that is raised here, or by a call from here that its
  function does not take, is a fault: it must not be counted as damage.
  """
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  package = frames[-1].f_globals['__name__'].partition('.')[0]
  return isinstance(error, FAULTS) and package == __name__.partition('.')[0]
