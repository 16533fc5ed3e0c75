"""Says in one line why JAX has no device to compute on.

JAX is asked again, but only when something has failed: processes that decode
clips pass here, too, and never have it.
"""

from collections.abc import Iterator
import contextlib
import sys


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Errors inside that come of JAX having no device say so.

  Raises:
    OSError: instead of them, with what can be done.
  """
  try:
    yield
  except (AssertionError, RuntimeError) as error:
    if 'jax' not in sys.modules:
      raise
    reason = _missing()
    if reason is None:
      raise
    raise OSError(reason) from error


def _missing() -> str | None:
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
