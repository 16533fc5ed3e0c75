"""The frame of every command: it logs, and reports errors in one line."""

from collections.abc import Iterator
import contextlib
import sys

from experiments import errors, logs


@contextlib.contextmanager
def running(
  extra: str = 'experiments', interrupted: str = 'Interrupted.'
) -> Iterator[None]:
  """Decorates a command's main function: starts the log, exits on an error.

  Args:
    extra: the extra of setup.py that installs the packages imported inside.
    interrupted: the message after Ctrl-C.
  """
  logs.initialize()
  try:
    with errors.explaining_no_device():
      yield
  except ImportError as error:
    sys.exit(f"Error: {error}: pip install -e '.[{extra}]' brings it.")
  except (OSError, ValueError) as error:
    sys.exit(f'Error: {error}')
  except KeyboardInterrupt:
    sys.exit(interrupted)
