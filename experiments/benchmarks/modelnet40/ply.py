"""Meshes and point clouds in PLY, the Polygon File Format.

plyfile reads them, and believes what a header says. So this module reads the
header first, and refuses one that announces more than the file has.

Glossary of shapes:
- V: vertices; F: triangles.
"""

import dataclasses
import io
from typing import BinaryIO
import warnings

import numpy as np

from experiments import errors
from experiments.benchmarks.modelnet40 import meshes
from experiments.errors import DamagedRecordError

MAX_HEADER = 2**16  # Bytes.
MAX_ROWS = 50_000_000
# In text, and in rows with lists, which plyfile reads one by one. A value takes
# a microsecond; a list takes ten, and 160 bytes.
MAX_SLOW_VALUES = 5_000_000
BYTES = {
  **dict.fromkeys(('char', 'uchar', 'int8', 'uint8'), 1),
  **dict.fromkeys(('short', 'ushort', 'int16', 'uint16'), 2),
  **dict.fromkeys(('int', 'uint', 'int32', 'uint32', 'float', 'float32'), 4),
  **dict.fromkeys(('double', 'float64'), 8),
}
LISTS = ('vertex_indices', 'vertex_index')  # Writers' names of the corners.
SIZES = (3, 4)  # Corners of polygons that are read at once, if all have these.


class PlyError(DamagedRecordError):
  """Not a shape in PLY, or one that cannot or should not be read."""


@dataclasses.dataclass
class _Element:
  """A kind of rows, as the header describes it."""

  name: str
  count: int
  row_bytes: int = 0  # At least; in text, two for each value.
  values: int = 0  # In a row; at least.
  lists: tuple[str, ...] = ()


def read(file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads a mesh, or a cloud of points.

  Args:
    file: at its beginning; on a disk.

  Returns:
    Vertices [V, 3] in the file's dtype, and triangles [F, 3] int64 about the
    first corners of the faces; None if there are no faces, as in a cloud.

  Raises:
    PlyError: says what is wrong.
    MeshError: says what is wrong with a mesh.
  """
  try:
    import plyfile
  except ImportError as error:
    raise PlyError(
      f"{error}: pip install -e '.[modelnet40]' brings what reads PLY."
    ) from error
  elements, is_text = _read_header(file)
  faces = next((e for e in elements if e.name == 'face' and e.count), None)
  lists = faces.lists if faces and not is_text else ()
  for size in (*SIZES, None) if lists else (None,):
    known = {'face': dict.fromkeys(lists, size)} if size else {}
    # A new one each time: plyfile closes the stream of a text.
    stream = _Stream(io.FileIO(file.fileno(), closefd=False))
    stream.seek(0)
    try:
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # It warns of empty lists.
        data = plyfile.PlyData.read(stream, known_list_len=known)
      break
    except Exception as error:  # plyfile raises whatever it stumbles on.
      if errors.is_fault(error):
        raise
      if size is None:
        raise PlyError(f'It is not a whole PLY file: {error}') from error
  vertices = _vertices(data)
  if faces is None:
    return vertices, None
  triangles = _triangles(data['face'])
  meshes.check_corners(triangles, len(vertices))
  return vertices, triangles


class _Stream(io.BufferedReader):
  """A file that reads no more than it has, whatever it is asked for."""

  def read(self, size: int | None = -1, /) -> bytes:
    if size is None or size < 0:  # The length of a list may be signed.
      raise PlyError(f'It has a list of {size} bytes.')
    if size > 2**16:
      here = self.tell()
      size = min(size, self.seek(0, io.SEEK_END) - here)
      self.seek(here)
    return super().read(size)


def _read_header(file: BinaryIO) -> tuple[list[_Element], bool]:
  """Returns the elements, which fit into the file, and whether it is text."""
  start = file.read(MAX_HEADER)
  size = file.seek(0, io.SEEK_END)
  newline = b'\r\n' if start[3:5] == b'\r\n' else start[3:4]
  header, end, _ = start.partition(newline + b'end_header' + newline)
  if newline not in (b'\n', b'\r', b'\r\n') or not end:
    raise PlyError('It has no PLY header, or a very long one.')
  lines = header.split(newline)
  if any(x in line for line in lines for x in (b'\r', b'\n')):
    raise PlyError('The lines of its header end in several ways.')
  is_text = False
  elements: list[_Element] = []
  for line in lines[1:]:
    match line.decode('latin-1').split():
      case ['format', form, '1.0']:
        is_text = form == 'ascii'
      case ['comment' | 'obj_info', *_] | []:
        pass
      case ['element', name, count] if count.isdecimal() and len(count) < 19:
        elements.append(_Element(name, int(count)))
      case ['property', 'list', of_size, of_items, name] if (
        elements and of_size in BYTES and of_items in BYTES
      ):
        elements[-1].row_bytes += 2 if is_text else BYTES[of_size]
        elements[-1].values += 1
        elements[-1].lists += (name,)
      case ['property', of_value, _] if elements and of_value in BYTES:
        elements[-1].row_bytes += 2 if is_text else BYTES[of_value]
        elements[-1].values += 1
      case _:
        raise PlyError(f'Its header has the unknown line {line[:40]!r}.')
  least = sum(e.count * e.row_bytes for e in elements)
  # The last line may lack its end.
  if least > size - len(header) - len(end) + 1 or any(
    e.count and not e.values for e in elements
  ):
    raise PlyError(
      'Its header announces '
      + ', '.join(f'{e.count} x {e.name[:20]}' for e in elements[:5])
      + f'; the file has {size} bytes.'
    )
  rows = sum(e.count for e in elements)
  slow = sum(e.count * e.values for e in elements if is_text or e.lists)
  for number, most, what in (
    (rows, MAX_ROWS, 'rows'),
    (slow, MAX_SLOW_VALUES, 'values in text or beside lists'),
  ):
    if number > most:
      raise PlyError(f'It has {number} {what}; at most {most} are read.')
  return elements, is_text


def _vertices(data) -> np.ndarray:
  if 'vertex' not in data or any(x not in data['vertex'] for x in 'xyz'):
    raise PlyError('It has no vertices with x, y and z.')
  columns = [data['vertex'][x] for x in 'xyz']
  if any(column.dtype.kind not in 'iuf' for column in columns):
    raise PlyError('Its vertices have lists of coordinates.')
  return np.stack(columns, axis=-1)


def _triangles(faces) -> np.ndarray:
  name = next((x for x in LISTS if x in faces), None)
  if name is None:
    raise PlyError(f'Its faces have none of {LISTS}.')
  corners = faces[name]
  if corners.dtype != object:  # [faces, corners], or a number a face.
    groups = [corners] if corners.ndim == 2 else []
  else:
    sizes = np.array([len(polygon) for polygon in corners])
    groups = [
      np.stack(corners[sizes == size].tolist())
      for size in np.unique(sizes[sizes >= 3])
    ]
  if any(group.dtype.kind not in 'iu' for group in groups):
    raise PlyError('Its faces have corners that are not integers.')
  return meshes.fans(groups)
