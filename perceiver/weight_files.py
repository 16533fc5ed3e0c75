"""Folders of weights: model.safetensors and config.json, read with suspicion.

Nothing in such a folder is ever executed: there is no pickle, and only plain
files inside the folder are opened.
"""

import json
import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

CONFIG = 'config.json'
TENSORS = 'model.safetensors'
DTYPES = {
  'float32': np.dtype(np.float32),
  'float16': np.dtype(np.float16),
  'bfloat16': np.dtype(jnp.bfloat16),
}
MAX_JSON_BYTES = 16 << 20

PathLike = str | os.PathLike[str]


class WeightsError(ValueError):
  """A folder's weights cannot be used; the message says which file and why."""


def read_json(folder: PathLike, name: str = CONFIG) -> dict[str, Any]:
  """Reads a JSON object from a file in the folder.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    WeightsError: if the file is not a JSON object, is too large, or is a link
      out of the folder.
  """
  path = _inside(folder, name)
  if path.stat().st_size > MAX_JSON_BYTES:
    raise WeightsError(f'{path} has more than {MAX_JSON_BYTES} bytes.')
  try:
    data = json.loads(path.read_text(encoding='utf-8'))
  except (ValueError, RecursionError) as error:
    raise WeightsError(f'{path} is not valid JSON: {error}') from error
  if not isinstance(data, dict):
    raise WeightsError(f'{path} is not a JSON object.')
  return data


def read_tensors(folder: PathLike) -> dict[str, np.ndarray]:
  """Reads all tensors of the folder, as float32.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    WeightsError: if the file is damaged, contradicts itself or is a link out of
      the folder, or if tensors are not floats or not finite.
  """
  path = _inside(folder, TENSORS)
  tensors = {}
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      for name in file.keys():  # noqa: SIM118, it is not a dictionary.
        tensors[name] = file.get_tensor(name)
  except (safetensors.SafetensorError, AttributeError, KeyError) as error:
    raise WeightsError(f'{path} is damaged: {error}') from error
  for name, tensor in tensors.items():
    if tensor.dtype not in DTYPES.values():
      raise WeightsError(
        f'{path}: {name!r} is of {tensor.dtype}, none of {sorted(DTYPES)}.'
      )
    tensors[name] = tensor.astype(np.float32)
    if not np.isfinite(tensors[name]).all():
      raise WeightsError(f'{path}: {name!r} has values that are not finite.')
  return tensors


def check_is_free(folder: PathLike) -> None:
  """Raises FileExistsError if a path is there that is not an empty folder."""
  path = pathlib.Path(folder)
  is_empty = path.is_dir() and not any(path.iterdir())
  if path.is_symlink() or (path.exists() and not is_empty):
    raise FileExistsError(f'{path} exists already: name another folder.')


def _inside(folder: PathLike, name: str) -> pathlib.Path:
  """Returns the path of a plain file in the folder itself, or raises."""
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f'{root} is not a folder of weights.')
  path = root / name
  if not path.exists() and not path.is_symlink():
    there = sorted(x.name for x in root.iterdir())[:10]
    raise FileNotFoundError(
      f'{root} has no {name}; it has {there}. Only safetensors are read.'
    )
  if path.resolve().parent != root.resolve():
    raise WeightsError(
      f'{path} is a link out of the folder, to {path.resolve()}: copy the'
      ' files there.'
    )
  if not path.is_file():
    raise WeightsError(f'{path} is not a file.')
  return path
