"""Sets up the log of a process.

This does not import JAX, because processes that decode clips import the command
that started them.
"""

import logging
import sys
import warnings

from absl import logging as absl_logging


def initialize() -> None:
  """Shows this project's messages, and only the errors of other libraries.

  A second call changes nothing, because a notebook's cell may run again.
  """
  if logging.getLogger('experiments').handlers:
    return
  absl_logging.set_verbosity(absl_logging.ERROR)
  _silence_failed_saves()
  for name in ('experiments', 'perceiver'):
    handler = logging.StreamHandler()
    handler.setFormatter(
      logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S')
    )
    if name == 'perceiver':
      # A model is traced several times: to initialise, train and evaluate it.
      handler.addFilter(_NotSaidBefore())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _silence_failed_saves() -> None:
  """Hides what libraries say of a failed save, which Orbax raises as well.

  tensorstore also says, for each write that was under way, that nothing waits
  for it any more.
  """
  absl_logging.get_absl_handler().addFilter(
    lambda record: 'orbax' not in record.pathname
  )
  logging.getLogger('asyncio').setLevel(logging.CRITICAL)
  warnings.filterwarnings('ignore', 'coroutine .* was never awaited')

  def hook(what: 'sys.UnraisableHookArgs') -> None:
    if str(what.exc_value) != 'Event loop is closed':
      sys.__unraisablehook__(what)

  sys.unraisablehook = hook


class _NotSaidBefore(logging.Filter):
  def __init__(self) -> None:
    super().__init__()
    self._said: set[str] = set()

  def filter(self, record: logging.LogRecord) -> bool:
    message = record.getMessage()
    is_new = message not in self._said
    self._said.add(message)
    return is_new
