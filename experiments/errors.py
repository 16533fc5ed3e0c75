"""Errors in data, told apart from faults of the code; JAX without a device.

This imports JAX only after a failure, because processes that decode clips
import it and never need JAX.
"""

from collections.abc import Iterator
import contextlib
import sys
import traceback

# Errors that wrong calls and wrong names raise.
FAULTS = (AssertionError, AttributeError, ImportError, NameError, TypeError)


class DataNotFoundError(FileNotFoundError):
  """A data set was not found; the message says how to prepare it."""


class PreparationError(ValueError):
  """A data set cannot be prepared; the message says why."""


class DamagedRecordError(ValueError):
  """A record cannot be decoded; it is skipped, counted and named."""


class WorkersDiedError(OSError):
  """Processes that decode data die each time they are started."""


class DamagedDataError(ValueError):
  """Too many records of a data set are damaged to go on."""


def is_fault(error: BaseException) -> bool:
  """Returns whether an error is a fault of this code, not of what it reads.

  Readers in Python raise nearly any error on damaged data, but inside their own
  modules. One of FAULTS that this project's code raises, or that it causes by a
  call with wrong arguments, is a fault, and must not be counted as damage.
  """
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  package = frames[-1].f_globals['__name__'].partition('.')[0]
  return isinstance(error, FAULTS) and package == __name__.partition('.')[0]


@contextlib.contextmanager
def explaining_no_device() -> Iterator[None]:
  """Explains errors inside that arise because JAX has no device.

  Raises:
    OSError: in their place, with what can be done.
  """
  try:
    yield
  except (AssertionError, RuntimeError) as error:
    if 'jax' not in sys.modules:
      raise
    reason = _no_device()
    if reason is None:
      raise
    raise OSError(reason) from error


def _no_device() -> str | None:
  """Returns why JAX has no device; None if it has one."""
  import jax

  try:
    jax.devices()
    return None
  except (AssertionError, RuntimeError) as error:
    # The error is empty if JAX's package for GPUs is not installed.
    reason = str(error).partition(' (set JAX_PLATFORMS=')[0]
  asked = jax.config.values['jax_platforms']
  what = f' for JAX_PLATFORMS={asked}' if asked else ''
  return (
    f'JAX has no device{what}{": " if reason else ""}{reason.rstrip(".")}.'
    ' Install JAX for your device, such as pip install "jax[cuda13]"; or set'
    ' JAX_PLATFORMS=cpu; or unset it, to use any device.'
  )
