"""What a process says, to whoever started it.

Without JAX: processes that decode clips import the command that started them.
"""

import logging

from absl import logging as absl_logging


def initialize() -> None:
  """Shows what this project says, and of its libraries only the errors."""
  absl_logging.set_verbosity(absl_logging.ERROR)
  for name in ('experiments', 'perceiver'):
    handler = logging.StreamHandler()
    handler.setFormatter(
      logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S')
    )
    if name == 'perceiver':
      # A model is traced several times: to initialise, to train, to evaluate.
      handler.addFilter(_NotSaidBefore())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _NotSaidBefore(logging.Filter):
  def __init__(self) -> None:
    super().__init__()
    self._said: set[str] = set()

  def filter(self, record: logging.LogRecord) -> bool:
    message = record.getMessage()
    is_new = message not in self._said
    self._said.add(message)
    return is_new
