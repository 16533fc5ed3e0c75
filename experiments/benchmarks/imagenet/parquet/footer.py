"""Reads where a parquet file's columns are, from its footer.

pyarrow also reads it, but some damaged footers end the process there. The
fields: https://github.com/apache/parquet-format, src/main/thrift/parquet.thrift
"""

from collections.abc import Iterator
from typing import NamedTuple

from experiments.benchmarks.imagenet import shards
from experiments.benchmarks.imagenet.parquet import thrift
from experiments.errors import DamagedRecordError

MAGIC = b'PAR1'
# `datasets` writes about 1 kB for each row group.
MAX_FOOTER = 2**24
CODECS = (
  *('UNCOMPRESSED', 'SNAPPY', 'GZIP', 'LZO', 'BROTLI', 'LZ4', 'ZSTD'),
  'LZ4_RAW',
)
# Field numbers, by struct.
_FILE_ROW_GROUPS = 4
_GROUP_COLUMNS, _GROUP_NUM_ROWS = 1, 3
_CHUNK_FILE, _CHUNK_COLUMN = 1, 3
_PATH, _CODEC, _NUM_VALUES, _UNCOMPRESSED, _COMPRESSED = 3, 4, 5, 6, 7
_DATA_PAGE, _DICTIONARY_PAGE = 9, 11


class Column(NamedTuple):
  """A column of a row group, as the footer claims it."""

  num_rows: int
  start: int  # Bytes, in the file.
  size: int
  decoded_size: int
  codec: str


class _Footer:
  """A part of a file in memory."""

  def __init__(self, data: bytes):
    self._data = data

  def read(self, offset: int, size: int) -> bytes:
    found = self._data[offset : offset + size]
    if offset < 0 or len(found) < size:
      raise DamagedRecordError('the footer has no end')
    return found


def row_groups(file: int, size: int) -> Iterator[dict[str, Column]]:
  """Yields the columns of each row group, by their paths.

  Args:
    file: descriptor of the file.
    size: its bytes.

  Raises:
    DamagedRecordError: if the footer is damaged, or claims what is not in the
      file.
  """
  tail = shards.read_at(file, max(0, size - 8), 8)
  length = int.from_bytes(tail[:4], 'little')
  if tail[4:] != MAGIC or length > min(MAX_FOOTER, size - 12):
    raise DamagedRecordError('it does not end with a footer')
  footer = _Footer(shards.read_at(file, size - 8 - length, length))
  facts, _ = thrift.read_struct(footer, 0)
  try:
    for group in facts[_FILE_ROW_GROUPS]:
      yield {
        b'.'.join(chunk[_CHUNK_COLUMN][_PATH]).decode(): _column(
          chunk[_CHUNK_COLUMN], group[_GROUP_NUM_ROWS], size
        )
        for chunk in group[_GROUP_COLUMNS]
        if _CHUNK_FILE not in chunk  # Columns in other files are none.
      }
  except (LookupError, TypeError, AttributeError, UnicodeError) as error:
    raise DamagedRecordError('the footer lacks facts') from error


def _column(facts: dict[int, int], num_rows: int, size: int) -> Column:
  start, packed = facts[_DATA_PAGE], facts[_COMPRESSED]
  dictionary = facts.get(_DICTIONARY_PAGE, 0)
  if 0 < dictionary < start:
    start = dictionary
  if (
    facts[_NUM_VALUES] != num_rows
    or num_rows < 0
    or start < len(MAGIC)
    or packed < 0
    or start + packed > size
    or facts[_UNCOMPRESSED] < 0
  ):
    raise DamagedRecordError('the sizes in the footer do not fit the file')
  codec = CODECS[facts[_CODEC]]
  return Column(num_rows, start, packed, facts[_UNCOMPRESSED], codec)
