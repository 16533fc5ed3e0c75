"""What the commands have in common: a log, and one line for what is wrong."""

from collections.abc import Iterator
import contextlib
import sys

from experiments import errors, logs


@contextlib.contextmanager
def running(
  extra: str = 'experiments', interrupted: str = 'Interrupted.'
) -> Iterator[None]:
  """Logs what goes on inside; an error there ends the process with its text.

  Args:
    extra: of setup.py, which brings the packages that are imported inside.
    interrupted: what Ctrl-C leaves.
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
