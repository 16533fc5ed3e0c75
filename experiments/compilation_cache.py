"""What was compiled is kept, so that a run that goes on compiles nothing."""

import logging
import os
import pathlib
import zlib

from etils import epath
import jax

from experiments import storage

log = logging.getLogger(__name__)
_ZLIB = b'\x78'  # What JAX compresses with, if it has nothing better.


def use(workdir: str, place: str | None) -> None:
  """Lets JAX keep all that it compiles from now on, and look there first.

  JAX makes the directory when it first writes to it; where it cannot, it warns
  and compiles. What the user told JAX of a cache, by JAX_COMPILATION_CACHE_DIR,
  holds instead.

  Args:
    workdir: the run's directory.
    place: a directory, within the workdir if it is not absolute; None for none.

  Raises:
    OSError: if it is in a store that cannot be used.
  """
  if not place or jax.config.values['jax_compilation_cache_dir']:
    return
  directory = _directory(workdir, place)
  if jax.default_backend() == 'cpu':
    directory /= _cpu()
  if jax.process_index() == 0:
    _remove_damaged(directory)
  jax.config.update('jax_compilation_cache_dir', str(directory))
  # All of it, however small and soon compiled.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def _directory(workdir: str, place: str) -> epath.Path:
  # Neither can be joined with a path in a store.
  stands_alone = '://' in place or os.path.isabs(place)
  return storage.path(place) if stands_alone else storage.path(workdir) / place


def _cpu() -> str:
  """Names the CPU's instruction set: no other can run what is for it."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # Not Linux.
    return 'cpu'
  flags = next((x for x in lines if x.startswith(('flags', 'Features'))), '')
  return f'cpu-{zlib.crc32(flags.encode()):08x}'


def _remove_damaged(directory: epath.Path) -> None:
  """Removes what a kill cut off: JAX would neither read nor replace it."""
  if not storage.is_local(directory) or not directory.exists():
    return  # Objects in a store are whole.
  for path in directory.glob('*-cache'):
    try:
      content = path.read_bytes()
      if not content or content.startswith(_ZLIB):
        zlib.decompress(content)
    except zlib.error:
      log.warning('%s is damaged, and removed.', path)
      path.unlink(missing_ok=True)  # Another run may have been faster.
