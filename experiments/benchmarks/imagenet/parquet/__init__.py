"""ImageNet as parquet files like Hugging Face's, read at random.

The column 'image' is a struct of 'bytes' and 'path', the column 'label' an
integer. Labels, paths and footers are read when the files are opened, together
less than 1 % of them. Then each image is read by itself: `pages` finds those of
a row group when one of them is first asked for.
"""

from collections.abc import Iterator
import contextlib
import json
import os
from typing import Any, BinaryIO

import numpy as np

from experiments.benchmarks.imagenet import shards
from experiments.benchmarks.imagenet.checks import check_classes, check_examples
from experiments.benchmarks.imagenet.known import known_wnids, NUM_CLASSES
from experiments.benchmarks.imagenet.parquet import footer, pages
from experiments.benchmarks.imagenet.parquet.pages import Chunk
from experiments.benchmarks.imagenet.parquet.source import (
  IMAGE,
  open_file,
  ParquetSource,
)
from experiments.benchmarks.listing import shown
from experiments.errors import DamagedRecordError, DataNotFoundError

PATH, LABEL = 'image.path', 'label'
MAX_NAME = 255  # Bytes.
# A row group that has to be decoded as a whole, when decompressed.
MAX_DECODED_BYTES = 2**30


def open_parquet(
  data_dir: str,
  split: str,
  *,
  num_examples: int | None,
  num_classes: int | None,
) -> ParquetSource | None:
  """Opens a split's images, in the order of the files and their rows.

  Returns None if there are no files. The arguments are as for
  `source.open_source`.

  Raises:
    DataNotFoundError: if some files of the set or pyarrow are missing.
    ValueError: if there are more or fewer images or classes, labels of other
      classes, or a file is damaged or has other columns.
    OSError: if a file cannot be read.
  """
  paths = shards.find(data_dir, split, '.parquet')
  if not paths:
    return None
  chunks: list[Chunk] = []
  names, labels = [], []
  for shard, path in enumerate(paths):
    with _opened(path) as (file, parquet):
      if shard == 0:
        _class_names(path, parquet, num_classes)
      added = list(_chunks(path, file, parquet, shard))
      found = _names_and_labels(path, parquet)
      if len(found[0]) != sum(chunk.num_rows for chunk in added):
        raise DamagedRecordError(f'it has {len(found[0])} labels')
      chunks += added
      names.append(found[0])
      labels.append(found[1])
  folder = os.path.dirname(paths[0])
  ends = np.cumsum([chunk.num_rows for chunk in chunks], dtype=np.int64)
  numbers = np.concatenate(labels)
  check_examples(folder, split, len(numbers), num_examples)
  shards.check_labels(
    split,
    numbers,
    num_classes,
    lambda i: paths[chunks[np.searchsorted(ends, i, side='right')].shard],
  )
  return ParquetSource(
    tuple(paths),
    tuple(chunks),
    ends,
    np.concatenate(names),
    numbers.astype(np.int32),
  )


def find_classes(data_dir: str, num_classes: int | None) -> list[str] | None:
  """Returns the names of the classes, or their numbers if there are no names.

  If `num_classes` is None, too, the training labels tell how many there are.
  Returns None without files; raises what `open_parquet` does.
  """
  for split in shards.SPLITS:
    if paths := shards.find(data_dir, split, '.parquet'):
      with _opened(paths[0]) as (_, parquet):
        names = _class_names(paths[0], parquet, num_classes)
      if not names and num_classes is None:
        anything = {'num_examples': None, 'num_classes': None}
        train = open_parquet(data_dir, 'train', **anything)
        num_classes = int(train.labels.max()) + 1 if train else 0
      return names or list(map(str, range(num_classes or 0)))
  return None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, Any]]:
  """Opens a file with pyarrow; names it in errors."""
  try:
    import pyarrow as pa
  except ImportError as error:
    raise DataNotFoundError(
      f'{path} is read with pyarrow, which is not installed:'
      " pip install -e '.[parquet]'"
    ) from error
  with open(path, 'rb') as file:
    try:
      yield file, open_file(file)
    except (
      *(pa.ArrowException, OSError, UnicodeError),
      DamagedRecordError,
    ) as error:
      if isinstance(error, OSError) and error.errno:  # The disk's.
        raise
      reason = str(error).rstrip('.')
      raise ValueError(
        f'{path} is not a whole parquet file: {reason}. Download it again.'
      ) from error


def _class_names(
  path: str, parquet: Any, num_classes: int | None
) -> list[str] | None:
  """Returns the names that `datasets` keeps in the schema, if there are any."""
  metadata = parquet.schema_arrow.metadata or {}
  try:
    facts = json.loads(metadata.get(b'huggingface', b'{}'))
    names = facts['info']['features'][LABEL]['names']
  except (ValueError, LookupError, TypeError, RecursionError):
    return None
  if not isinstance(names, list) or not all(isinstance(x, str) for x in names):
    return None
  check_classes(path, names, num_classes)
  if num_classes == NUM_CLASSES and names != sorted(names) == known_wnids():
    raise ValueError(
      f"{path} has ImageNet's classes in another order than that of their"
      f' wnids: {shown(names)}. Its labels would mean other classes here.'
    )
  return names


def _chunks(
  path: str, file: BinaryIO, parquet: Any, shard: int
) -> Iterator[Chunk]:
  """Yields the images' column chunks.

  Raises:
    ValueError: if the columns are others.
    DamagedRecordError: if the footer does not fit the file.
  """
  schema = parquet.schema
  columns = {column.path: column for column in schema}
  kinds = {name: column.physical_type for name, column in columns.items()}
  if not (
    kinds.get(IMAGE) == 'BYTE_ARRAY'
    and kinds.get(PATH, 'BYTE_ARRAY') == 'BYTE_ARRAY'
    and kinds.get(LABEL) in ('INT32', 'INT64')
    and not any(column.max_repetition_level for column in columns.values())
  ):
    found = ', '.join(f'{name} ({kind})' for name, kind in kinds.items())
    raise ValueError(
      f'{path} has the columns {found}; ImageNet has {IMAGE} (BYTE_ARRAY) and'
      f' {LABEL} (INT64), and perhaps {PATH} (BYTE_ARRAY).'
    )
  level = columns[IMAGE].max_definition_level
  size = os.fstat(file.fileno()).st_size
  groups = footer.row_groups(file.fileno(), size)
  for i, group in enumerate(groups):
    for name in {IMAGE, PATH, LABEL} & kinds.keys():
      if name not in group:
        raise DamagedRecordError(f'row group {i} lacks {name}')
      most = 2**20 + 2 * MAX_NAME * group[name].num_rows
      if name != IMAGE and group[name].decoded_size > most:
        raise DamagedRecordError(
          f'row group {i} has {group[name].decoded_size} bytes of {name}'
        )
    image = group[IMAGE]
    if (
      image.codec not in pages.CODECS and image.decoded_size > MAX_DECODED_BYTES
    ):
      raise ValueError(
        f'{path}: row group {i} has {image.num_rows} images in'
        f' {image.decoded_size} bytes of {image.codec}, which would all be'
        ' decompressed for each image. Write it again with row groups of 100,'
        ' or uncompressed.'
      )
    if image.num_rows:
      yield Chunk(
        *(shard, i, image.num_rows, image.start, image.size),
        *(image.codec, level),
      )


def _names_and_labels(path: str, parquet: Any) -> tuple[np.ndarray, np.ndarray]:
  """Reads the images' names and labels; raises ValueError for no label."""
  has_paths = PATH in {column.path for column in parquet.schema}
  table = parquet.read(columns=[LABEL, *[PATH] * has_paths])
  labels = table[LABEL].to_numpy(zero_copy_only=False)
  if labels.dtype.kind not in 'iu':  # Null is NaN.
    raise ValueError(
      f'{path} has {table[LABEL].null_count} rows with no label.'
    )
  images = table['image'].to_pylist() if has_paths else [None] * len(labels)
  stem = os.path.basename(path).removesuffix('.parquet')
  names = [
    os.path.basename(os.fsencode((image or {}).get('path') or b''))[:MAX_NAME]
    or f'{stem}_{row:08d}'.encode()
    for row, image in enumerate(images)
  ]
  return np.array(names, bytes), labels.astype(np.int64)
