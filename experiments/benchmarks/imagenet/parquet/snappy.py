"""Random access into Snappy's raw format, for pages of images.

The format is the size of what was compressed, then elements, which are literal
bytes or copies of earlier ones:
https://github.com/google/snappy/blob/main/format_description.txt

Images hardly compress, so nearly all elements are literals of 64 KiB, and to
find all elements only their first bytes need to be read. Encoders compress each
64 KiB on their own: no element reaches beyond such a block, and none copies
from an earlier one. So any run of blocks, with its size before it, is a whole
Snappy stream, too.
"""

import bisect
import dataclasses

import numpy as np

from experiments.benchmarks.imagenet import shards
from experiments.benchmarks.imagenet.parquet import thrift
from experiments.errors import DamagedRecordError

BLOCK = 2**16
# Elements in a page. Pages of images have about two for each 64 KiB and some
# ten for each image; lists of this many take 0.1 GB while they are looked at.
MAX_ELEMENTS = 2**20
# Of copies to look through for a byte, before its block is decompressed.
MAX_COPIES = 32


class UnlocatedError(ValueError):
  """Values of a page have no places of their own in the file."""


class Window:
  """Reads small parts of a file that often lie close together."""

  size = 4096  # Bytes: a page of most disks and caches.

  def __init__(self, file: int, end: int):
    self.file, self.end = file, end
    self._start, self._data = 0, b''

  def read(self, offset: int, size: int) -> bytes:
    """Raises DamagedRecordError if the part is not before the end."""
    if offset < 0 or offset + size > self.end:
      raise DamagedRecordError(f'no data at bytes {offset} to {offset + size}')
    if size > self.size:
      return shards.read_at(self.file, offset, size)
    at = offset - self._start
    if at < 0 or at + size > len(self._data):
      count = min(self.size, self.end - offset)
      self._start, self._data = offset, shards.read_at(self.file, offset, count)
      at = 0
    return self._data[at : at + size]


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
  """Where the blocks of a Snappy stream lie in a file."""

  size: int  # Bytes when decompressed.
  offsets: np.ndarray  # [blocks + 1] in the file; the last one is the end.

  def read(self, file: int, offset: int, size: int) -> bytes:
    """Decompresses a part; raises DamagedRecordError if it is damaged."""
    import pyarrow as pa

    if not size:
      return b''
    first, last = offset // BLOCK, -(-(offset + size) // BLOCK)
    start, end = self.offsets[[first, last]].tolist()
    count = min(last * BLOCK, self.size) - first * BLOCK
    stream = _encoded(count) + shards.read_at(file, start, end - start)
    try:
      data = pa.Codec('snappy').decompress(stream, count, asbytes=True)
    except (OSError, ValueError) as error:  # Arrow's errors are these.
      raise DamagedRecordError(f'bytes {start} to {end}: {error}') from error
    return data[offset - first * BLOCK :][:size]


class Elements:
  """The elements of a Snappy stream, while a page is looked at.

  Raises:
    DamagedRecordError: if they are not a whole stream of the given size.
    UnlocatedError: if there are very many, or blocks that need others.
  """

  def __init__(self, window: Window, start: int, end: int, size: int):
    self._window = window
    # By element: its place in the data; and a literal's place in the file, or
    # the negative distance of what is copied.
    self._starts: list[int] = []
    self._sources: list[int] = []
    offsets = []
    claimed, at = thrift.read_varint(window, start)
    place = 0
    while at < end:
      if place % BLOCK == 0:
        offsets.append(at)
      length, source, at = self._element(at)
      if source < -(place % BLOCK) or place % BLOCK + length > BLOCK:
        raise UnlocatedError
      if len(self._starts) == MAX_ELEMENTS:
        raise UnlocatedError
      self._starts.append(place)
      self._sources.append(source)
      place += length
    if at != end or not claimed == place == size:
      raise DamagedRecordError(f'no Snappy data at bytes {start} to {end}')
    self.blocks = Blocks(size, np.array([*offsets, end]))

  def _element(self, at: int) -> tuple[int, int, int]:
    """Returns the length and the source, and the next element's offset."""
    tag = self._window.read(at, 1)[0]
    kind, length = tag & 3, (tag >> 2) + 1
    if kind == 0:  # A literal; long ones have their length in 1 to 4 bytes.
      more = max(0, length - 60)
      if more:
        length = _little(self._window.read(at + 1, more)) + 1
      source = at + 1 + more
      return length, source, source + length
    more = (1, 2, 4)[kind - 1]
    distance = _little(self._window.read(at + 1, more))
    if kind == 1:
      length, distance = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | distance
    if not distance:
      raise DamagedRecordError(f'a copy of nothing at byte {at}')
    return length, -distance, at + 1 + more

  def peek(self, offset: int, size: int) -> bytes:
    """Returns a few decompressed bytes, without decompressing others."""
    if offset + size > self.blocks.size:
      raise DamagedRecordError(f'the page ends before byte {offset + size}')
    if size > 16:
      return self.blocks.read(self._window.file, offset, size)
    return bytes(map(self._byte, range(offset, offset + size)))

  def _byte(self, offset: int) -> int:
    place = offset
    for _ in range(MAX_COPIES):
      i = bisect.bisect_right(self._starts, place) - 1
      source = self._sources[i]
      if source >= 0:
        return self._window.read(source + place - self._starts[i], 1)[0]
      place += source
    return self.blocks.read(self._window.file, offset, 1)[0]


def _little(data: bytes) -> int:
  return int.from_bytes(data, 'little')


def _encoded(number: int) -> bytes:
  """Writes a number as `thrift.read_varint` reads it."""
  encoded = []
  while number > 127:
    encoded.append(number & 127 | 128)
    number >>= 7
  return bytes([*encoded, number])
