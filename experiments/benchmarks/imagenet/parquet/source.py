"""Reads images from parquet files by index."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any, BinaryIO

import numpy as np

from experiments.benchmarks.imagenet.folders import Record
from experiments.benchmarks.imagenet.parquet import pages
from experiments.benchmarks.imagenet.parquet.pages import Chunk, Places
from experiments.benchmarks.imagenet.parquet.snappy import UnlocatedError
from experiments.errors import DamagedRecordError

IMAGE = 'image.bytes'  # The column.


@dataclasses.dataclass(frozen=True, eq=False)
class ParquetSource(Sequence[Record]):
  """Records by index, each read from its file when asked for.

  1.28 million records take about 50 MB, in this process and in each that the
  source is sent to, and 40 MB more once images were read from all row groups.
  """

  shards: tuple[str, ...]  # Their paths.
  chunks: tuple[Chunk, ...]  # By row group, over all shards.
  ends: np.ndarray  # [chunks]: rows up to the end of each.
  names: np.ndarray  # [n] bytes
  labels: np.ndarray  # [n] int32
  # By row group; None if its images have no places.
  _places: dict[int, Places | None] = dataclasses.field(default_factory=dict)
  # The last one that had to be decoded as a whole.
  _decoded: dict[int, Any] = dataclasses.field(default_factory=dict)

  def __reduce__(self) -> Any:  # Processes look for the places themselves.
    state = self.shards, self.chunks, self.ends, self.names, self.labels
    return type(self), state

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: Any) -> Any:
    index = range(len(self))[index]
    group = int(np.searchsorted(self.ends, index, side='right'))
    chunk = self.chunks[group]
    row = index - int(self.ends[group]) + chunk.num_rows
    path, name = self.shards[chunk.shard], os.fsdecode(bytes(self.names[index]))
    try:
      with open(path, 'rb', buffering=0) as file:
        if group not in self._places:
          try:
            found = pages.locate(file.fileno(), chunk)
            self._places[group] = found
          except UnlocatedError:
            self._places[group] = None
        places = self._places[group]
        if places is not None:
          jpeg = places.read(file.fileno(), row)
        else:
          jpeg = self._decode(file, group)[row].as_py()
      if jpeg is None:
        raise DamagedRecordError('there is no image')
    except DamagedRecordError as error:
      raise DamagedRecordError(
        f'{path}, row {row} of row group {chunk.row_group}, {name}: {error}'
      ) from error
    return Record(name=name, jpeg=jpeg, label=int(self.labels[index]))

  def _decode(self, file: BinaryIO, group: int) -> Any:
    """Returns all images of a row group, as pyarrow reads them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    images = self._decoded.get(group)
    if images is None:
      try:
        images = pc.struct_field(
          open_file(file).read_row_group(
            self.chunks[group].row_group, columns=[IMAGE], use_threads=False
          )['image'],
          'bytes',
        )
      except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # The disk's.
          raise
        raise DamagedRecordError(str(error)) from error
      self._decoded.clear()
      self._decoded[group] = images
    return images


def open_file(file: BinaryIO) -> Any:
  """Opens a file with pyarrow, which raises ImportError if it is missing."""
  import pyarrow.parquet as pq

  return pq.ParquetFile(file, pre_buffer=False)
