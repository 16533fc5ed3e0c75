"""Folders of weights: model.safetensors and config.json, read with suspicion.

Nothing in such a folder is ever executed: there is no pickle, and only plain
files inside the folder are opened.
"""

from collections.abc import Mapping
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

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


def write(
  folder: PathLike,
  config: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  *,
  dtype: str = 'float32',
  files: Mapping[str, str] | None = None,
) -> None:
  """Writes a folder, whole or not at all.

  Args:
    folder: a folder that does not exist yet or is empty.
    config: the content of config.json.
    tensors: arrays by name.
    dtype: the dtype to store them in, one of `DTYPES`.
    files: texts of further files, by name.

  Raises:
    FileExistsError: if the folder exists and is not empty.
    ValueError: if the dtype is not one of `DTYPES`.
  """
  if dtype not in DTYPES:
    raise ValueError(f'dtype={dtype!r} is none of {sorted(DTYPES)}.')
  check_is_free(folder)
  folder = pathlib.Path(folder).absolute()
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent)
  )
  try:
    temporary.chmod(0o755)  # `mkdtemp` lets only the owner read it.
    texts = {CONFIG: json.dumps(config, indent=1) + '\n', **(files or {})}
    for name, text in texts.items():
      (temporary / name).write_text(text, encoding='utf-8')
    arrays = {
      name: np.ascontiguousarray(x, DTYPES[dtype])
      for name, x in tensors.items()
    }
    (temporary / TENSORS).write_bytes(safetensors.numpy.save(arrays))
    temporary.replace(folder)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


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
