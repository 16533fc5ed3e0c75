"""What can be wrong with data."""


class DataNotFoundError(FileNotFoundError):
  """A data set is not where it was looked for; says how to prepare it."""


class DamagedRecordError(ValueError):
  """A record cannot be decoded: it is skipped, counted and named."""


class DamagedDataError(ValueError):
  """Too many records of a data set are damaged to go on."""
