"""Folders of weights: model.safetensors and config.json, read with suspicion.

Nothing in such a folder is ever executed: there is no pickle, and what is no
plain file inside the folder is not opened.
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
  """A folder's weights cannot be used; says which file, what and why."""


def read_json(folder: PathLike, name: str = CONFIG) -> dict[str, Any]:
  """A JSON object of a file in the folder.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    WeightsError: for anything but an object, or a file that leads elsewhere.
  """
  path = _inside(folder, name)
  if path.stat().st_size > MAX_JSON_BYTES:
    raise WeightsError(f'{path} has more than {MAX_JSON_BYTES} bytes.')
  try:
    data = json.loads(path.read_text(encoding='utf-8'))
  except (ValueError, RecursionError) as error:
    raise WeightsError(f'{path} is no JSON: {error}') from error
  if not isinstance(data, dict):
    raise WeightsError(f'{path} holds no JSON object.')
  return data


def read_tensors(folder: PathLike) -> dict[str, np.ndarray]:
  """All tensors of the folder, in float32.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    WeightsError: for a damaged or lying file, for one that leads elsewhere, and
      for tensors that are no floats or not finite.
  """
  path = _inside(folder, TENSORS)
  tensors = {}
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      for name in file.keys():  # noqa: SIM118, which is no dictionary.
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
    folder: that does not exist yet, or is empty.
    config: what config.json holds.
    tensors: by name.
    dtype: to store them in, one of `DTYPES`.
    files: further texts by name.

  Raises:
    FileExistsError: if there is something already.
    ValueError: for another dtype.
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
    temporary.chmod(0o755)  # Not for us alone, as `mkdtemp` has it.
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
  """Raises FileExistsError if there is something in the place of a folder."""
  path = pathlib.Path(folder)
  if path.is_symlink() or (
    path.exists() and not (path.is_dir() and not any(path.iterdir()))
  ):
    raise FileExistsError(f'{path} exists already: name another folder.')


def _inside(folder: PathLike, name: str) -> pathlib.Path:
  """The path of a plain file that is in the folder itself."""
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f'{root} is no folder of weights.')
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
    raise WeightsError(f'{path} is no file.')
  return path
