"""Folders of weights: model.safetensors and config.json, read with suspicion.

Nothing in such a folder is ever executed: there is no pickle, and only plain
files inside the folder are opened. A snapshot in the cache of huggingface_hub
consists of links, which may lead to the files of that cache and nowhere else.
"""

from collections.abc import Collection, Iterable
import json
import os
import pathlib
import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

CONFIG = 'config.json'
TENSORS = 'model.safetensors'
INDEX = 'model.safetensors.index.json'  # The shards, if there are several.
DTYPES = {
  'float32': np.dtype(np.float32),
  'float16': np.dtype(np.float16),
  'bfloat16': np.dtype(jnp.bfloat16),
}
MAX_JSON_BYTES = 16 << 20
_SHARD = re.compile(r'[\w.-]{1,200}\.safetensors', re.ASCII)

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


def read_tensors(
  folder: PathLike, ignored: Collection[str] = ()
) -> dict[str, np.ndarray]:
  """Reads all tensors of the folder but those `ignored`, as float32.

  They are in model.safetensors, or else in the files that
  model.safetensors.index.json names.

  Raises:
    FileNotFoundError: if there is no such folder or file.
    WeightsError: if a file is damaged, contradicts itself or the index, or is a
      link out of the folder, or if tensors are not floats or not finite.
  """
  root = pathlib.Path(folder)
  if os.path.lexists(root / TENSORS) or not os.path.lexists(root / INDEX):
    return _read_safetensors(_inside(folder, TENSORS), ignored)
  tensors: dict[str, np.ndarray] = {}
  for shard, names in _read_index(folder).items():
    found = _read_safetensors(_inside(folder, shard), ignored)
    names = names.difference(ignored)
    if found.keys() != names:
      name = min(found.keys() ^ names)
      raise WeightsError(
        f'{folder}/{INDEX} and {shard} contradict each other: only'
        f' {"the file" if name in found else "the index"} has {name!r}.'
      )
    tensors |= found
  return tensors


def _read_index(folder: PathLike) -> dict[str, set[str]]:
  """Returns the names of tensors by the file that has them."""
  files = read_json(folder, INDEX).get('weight_map')
  if not isinstance(files, dict) or not all(
    isinstance(x, str) and _SHARD.fullmatch(x) for x in files.values()
  ):
    raise WeightsError(
      f"{folder}/{INDEX}: 'weight_map' must be an object that names, for each"
      ' tensor, a .safetensors file of this folder.'
    )
  names: dict[str, set[str]] = {}
  for name, file in files.items():
    names.setdefault(file, set()).add(name)
  return names


def _read_safetensors(
  path: pathlib.Path, ignored: Collection[str]
) -> dict[str, np.ndarray]:
  tensors = {}
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      for name in file.keys():  # noqa: SIM118, it is not a dictionary.
        if name not in ignored:
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


def missing(
  where: PathLike, name: str, files: Iterable[str]
) -> FileNotFoundError:
  """Returns the error for a folder or repository that lacks a file.

  Args:
    where: the folder or repository.
    name: the missing file.
    files: the names of those that are there.
  """
  there = sorted(files)
  message = f'{where} has no {name}; it has {there[:10]}.'
  pickles = [x for x in there if x.startswith('pytorch_model')]
  if name == TENSORS and pickles:
    return FileNotFoundError(
      f'{message} {pickles[0]} is a pickle, which is not opened: with torch and'
      " transformers, load it and call save_pretrained('NEW',"
      ' safe_serialization=True).'
    )
  return FileNotFoundError(f'{message} Only safetensors are read.')


def _inside(folder: PathLike, name: str) -> pathlib.Path:
  """Returns the path of a plain file in the folder itself, or raises."""
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f'{root} is not a folder of weights.')
  path = root / name
  if not os.path.lexists(path):
    raise missing(root, name, (x.name for x in root.iterdir()))
  target = path.resolve()
  if target.parent != root.resolve() and not _is_cached(root.resolve(), target):
    raise WeightsError(
      f'{path} is a link out of the folder, to {target}: copy the files there.'
    )
  if not path.is_file():
    raise WeightsError(f'{path} is not a file.')
  return path


def _is_cached(root: pathlib.Path, target: pathlib.Path) -> bool:
  """Returns whether huggingface_hub keeps a snapshot's file at this place.

  Its cache has

    models--OWNER--NAME/snapshots/COMMIT/FILE -> ../../blobs/HASH
    models--OWNER--NAME/blobs/HASH, a file or -> ../../blobs/HA/HASH
    blobs/HA/HASH, files that several models may have

  Args:
    root: the folder, without links.
    target: the place of the file, without links.
  """
  snapshots, model = root.parent, root.parent.parent
  if snapshots.name != 'snapshots' or not model.name.startswith('models--'):
    return False
  shared = model.parent / 'blobs' / target.name[:2]
  return target.parent in (model / 'blobs', shared)
