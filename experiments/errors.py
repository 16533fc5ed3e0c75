"""Errors in data, told from faults of the code; and JAX without a device.

Without JAX: processes that decode clips pass here, too, and never have it.
"""

from collections.abc import Iterator
import contextlib
import sys
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


@contextlib.contextmanager
def explaining_no_device() -> Iterator[None]:
  """Errors inside that come of JAX having no device say so.

  Raises:
    OSError: instead of them, with what can be done.
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
  """Why JAX has no device; None if it has some."""
  import jax

  try:
    jax.devices()
    return None
  except (AssertionError, RuntimeError) as error:
    # JAX says nothing of a GPU where its package for GPUs is not installed.
    reason = str(error).partition(' (set JAX_PLATFORMS=')[0]
  asked = jax.config.values['jax_platforms']
  what = f' for JAX_PLATFORMS={asked}' if asked else ''
  return (
    f'JAX has no device{what}{": " if reason else ""}{reason.rstrip(".")}.'
    ' Install JAX for your device, as by pip install "jax[cuda13]"; or set'
    ' JAX_PLATFORMS=cpu; or unset it, to take what there is.'
  )
