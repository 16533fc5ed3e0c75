"""Reads people's own shapes: meshes in OFF, OBJ, STL and PLY, and points.

Points are in NPY, or in OBJ or PLY without faces.
"""

import codecs
from collections.abc import Callable
import math
import mmap
from typing import Any, BinaryIO, Literal

import numpy as np

from experiments import errors
from experiments.benchmarks.images import files
from experiments.benchmarks.modelnet40 import meshes, obj, off, ply, shapes, stl
from experiments.benchmarks.modelnet40.meshes import MeshError
from experiments.errors import DamagedRecordError


def read(path: str) -> dict[str, Any]:
  """Reads a shape as a record with label 0, whatever the file's suffix says.

  A mesh in CLASS/train/NAME.off, or CLASS/test/, gets the very points that the
  prepared data set has. `shapes.draw` says what becomes of a cloud that does
  not have 2,048 points.

  Raises:
    DamagedRecordError: if the file has no shape, or is damaged or too large.
    OSError: if it cannot be opened.
  """
  name = shapes.name_of(path)
  with files.open_regular(path) as file:
    start = file.read(6)
    file.seek(0)
    if start == b'\x93NUMPY':
      reader = _read_npy
    else:
      reader = _read_ply if start[:3] == b'ply' else _read_mesh
    try:
      cloud = reader(file, name)
    except DamagedRecordError:
      raise
    except ValueError as error:
      raise DamagedRecordError(str(error)) from error
  return {'points': cloud, 'label': 0, 'name': name}


def _read_mesh(file: BinaryIO, name: str) -> np.ndarray:
  data = file.read().removeprefix(codecs.BOM_UTF8)
  vertices, triangles = _parser(data)(data)
  return _cloud(vertices, triangles, name)


def _parser(data: bytes) -> Callable[[bytes], Any]:
  """Returns what parses a mesh in OFF, OBJ or STL."""
  if stl.is_binary(data):
    return stl.parse
  lines = (line.partition('#')[0].split() for line in meshes.read_lines(data))
  word = next((words[0] for words in lines if words), '')
  if word.startswith('OFF'):
    return off.parse
  if word.lower() == 'solid':
    return stl.parse
  if word in obj.KEYWORDS:
    return obj.parse
  raise MeshError(
    f'It is neither OFF, OBJ, STL, PLY nor NPY: it starts with {word[:20]!r}.'
  )


def _cloud(
  vertices: np.ndarray, triangles: np.ndarray | None, name: str
) -> np.ndarray:
  if triangles is None:
    return shapes.draw(vertices, name)
  return shapes.sample((vertices.astype(np.float64), triangles), name)


def _read_ply(file: BinaryIO, name: str) -> np.ndarray:
  return _cloud(*ply.read(file), name)


def _read_npy(file: BinaryIO, name: str) -> np.ndarray:
  """Reads what np.save wrote; the header makes it allocate, or run, nothing."""
  # By version of the header, whose length has 2 or 4 bytes.
  readers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  try:
    version = np.lib.format.read_magic(file)
    shape, is_fortran, dtype = readers[version](file)
  except Exception as error:  # The header is evaluated as Python.
    if errors.is_fault(error):
      raise
    raise DamagedRecordError(f'Its NPY header is damaged: {error}') from error
  if len(shape) != 2 or shape[1] != 3 or dtype.kind not in 'iuf':
    raise DamagedRecordError(
      f'It has values of {dtype} in shape {shape}; expected numbers in (n, 3).'
    )
  start = file.tell()
  size = file.seek(0, 2) - start
  if math.prod(shape) * dtype.itemsize != size:
    raise DamagedRecordError(
      f'Its header announces {shape} numbers, but {size} bytes follow it.'
    )
  if not size:
    raise DamagedRecordError('It has no points.')
  order: Literal['C', 'F'] = 'F' if is_fortran else 'C'
  mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  return shapes.draw(np.ndarray(shape, dtype, mapped, start, order=order), name)
