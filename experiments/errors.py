"""What can be wrong with data."""


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
