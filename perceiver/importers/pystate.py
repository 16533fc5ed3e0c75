"""Reads the authors' released weights, `.pystate` files of 2021.

Such a file is a pickle of {'params', 'state'}, each a mapping of Haiku: module
-> name -> array. Nothing in it is executed, see `unpickler`.
"""

import pathlib
from typing import Any

import numpy as np

from perceiver.importers import unpickler
from perceiver.weight_files import PathLike, WeightsError

MAX_BYTES = 1 << 31  # The largest of the authors' files has 0.2 GB.
MAX_ARRAYS = 1 << 14  # One mapping can be named again and again.
SECTIONS = ('params', 'state')


def read(path: PathLike) -> dict[str, np.ndarray]:
  """Reads all arrays of a `.pystate` file, without executing anything.

  Returns:
    The arrays of 'params' and of 'state' by 'module/name', finite, in the
    file's dtypes. They are read-only views of the file's bytes, so together
    they take as much memory as the file.

  Raises:
    FileNotFoundError: if there is no such file.
    WeightsError: if the file is not such a pickle, or is damaged.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'There is no file {path}.')
  if not path.is_file():
    raise WeightsError(f'{path} is not a file.')
  size = path.stat().st_size
  if size > MAX_BYTES:
    raise WeightsError(f'{path} has {size} bytes, more than {MAX_BYTES}.')
  machine = unpickler.Machine(path.read_bytes())
  try:
    root = machine.run()
  except ValueError as error:
    raise WeightsError(
      f'{path} is not a pickle of weights, or is damaged: at byte'
      f' {machine.position}, {error}. Nothing in it was executed.'
    ) from error
  try:
    return _arrays(root, size)
  except ValueError as error:
    raise WeightsError(f'{path}: {error}.') from error


def _arrays(root: Any, size: int) -> dict[str, np.ndarray]:
  """Returns the arrays by 'module/name'. Raises ValueError if any is wrong."""
  if type(root) is not dict or root.keys() != set(SECTIONS):
    raise ValueError(f'it is not a mapping of {" and ".join(SECTIONS)}')
  found: dict[str, np.ndarray] = {}
  left = size  # An array that is named again and again would multiply.
  for section in SECTIONS:
    if type(root[section]) is not dict:
      raise ValueError(f'{section!r} is not a mapping')
    for module, values in root[section].items():
      if type(values) is not dict:
        raise ValueError(f'{_short(module)} in {section!r} is not a mapping')
      for name, array in values.items():
        key = f'{module}/{name}'
        if type(array) is not unpickler.Array or array.value is None:
          raise ValueError(f'{_short(key)} in {section!r} is not an array')
        if key in found:
          raise ValueError(f'{_short(key)} is there twice')
        left -= array.value.nbytes
        if left < 0:
          raise ValueError('its arrays have more bytes than the file')
        if len(found) == MAX_ARRAYS:
          raise ValueError(f'it has more than {MAX_ARRAYS} arrays')
        if not np.isfinite(array.value).all():
          raise ValueError(f'{_short(key)} has values that are not finite')
        found[key] = array.value
  return found


def _short(name: str) -> str:
  return repr(name if len(name) < 100 else f'{name[:100]}…')
