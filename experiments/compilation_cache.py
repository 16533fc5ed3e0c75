"""Keeps compiled programs, so that a run that goes on compiles nothing."""

import logging
import os
import pathlib
import zlib

from etils import epath
import jax

from experiments import storage

log = logging.getLogger(__name__)
_ZLIB = b'\x78'  # JAX compresses with zlib if it has no zstandard.


def use(workdir: str, place: str | None) -> None:
  """Makes JAX keep what it compiles from now on, and look there first.

  JAX creates the directory when it first writes to it. If it cannot, it warns
  and goes on. A cache that the user has set by JAX_COMPILATION_CACHE_DIR takes
  precedence.

  Args:
    workdir: the run's directory.
    place: a directory, in the workdir if it is not absolute; None for no cache.

  Raises:
    OSError: if the directory is in a store that cannot be used.
  """
  if not place or jax.config.values['jax_compilation_cache_dir']:
    return
  directory = _directory(workdir, place)
  if jax.default_backend() == 'cpu':
    directory /= _cpu()
  if jax.process_index() == 0:
    _remove_damaged(directory)
  jax.config.update('jax_compilation_cache_dir', str(directory))
  # All programs, however small and quickly compiled.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def _directory(workdir: str, place: str) -> epath.Path:
  # Neither can be appended to a path in a store.
  stands_alone = '://' in place or os.path.isabs(place)
  return storage.path(place) if stands_alone else storage.path(workdir) / place


def _cpu() -> str:
  """Names the CPU's instruction set, which a program is compiled for."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # Not Linux.
    return 'cpu'
  flags = next((x for x in lines if x.startswith(('flags', 'Features'))), '')
  return f'cpu-{zlib.crc32(flags.encode()):08x}'


def _remove_damaged(directory: epath.Path) -> None:
  """Removes files that a kill cut off: JAX neither reads nor replaces them."""
  if not storage.is_local(directory) or not directory.exists():
    return  # Objects in a store are whole.
  for path in directory.glob('*-cache'):
    try:
      content = path.read_bytes()
      if not content or content.startswith(_ZLIB):
        zlib.decompress(content)
    except zlib.error:
      log.warning('%s is damaged, and removed.', path)
      path.unlink(missing_ok=True)  # Another run may have removed it.
