"""Writes images as parquet files and tar shards, as others write ImageNet."""

from collections.abc import Iterator, Sequence
import io
import json
import os
import tarfile
from typing import Any

from experiments.benchmarks.imagenet.folders import Record

ROW_GROUP = 100  # Images, as `datasets` writes them.


def write_parquet(
  folder: str,
  split: str,
  images: Sequence[Record],
  class_names: Sequence[str],
  num_shards: int = 2,
  row_group: int = ROW_GROUP,
  **options: Any,
) -> None:
  """Writes files of a split, in order, as `datasets` does.

  `options` are those of `pyarrow.parquet.write_table`.
  """
  import pyarrow as pa
  import pyarrow.parquet as pq

  features = {
    'image': {'_type': 'Image'},
    'label': {'_type': 'ClassLabel', 'names': list(class_names)},
  }
  metadata = {'huggingface': json.dumps({'info': {'features': features}})}
  schema = pa.schema(
    {
      'image': pa.struct({'bytes': pa.binary(), 'path': pa.string()}),
      'label': pa.int64(),
    },
    metadata,
  )
  os.makedirs(folder, exist_ok=True)
  for i, part in enumerate(_parts(images, num_shards)):
    rows = [
      {'image': {'bytes': x['jpeg'], 'path': x['name']}, 'label': x['label']}
      for x in part
    ]
    pq.write_table(
      pa.Table.from_pylist(rows, schema),
      os.path.join(folder, f'{split}-{i:05d}-of-{num_shards:05d}.parquet'),
      row_group_size=row_group,
      **options,
    )


def write_tars(
  folder: str, split: str, images: Sequence[Record], num_shards: int = 2
) -> None:
  """Writes shards of a split, in order, as WebDataset does."""
  os.makedirs(folder, exist_ok=True)
  for i, part in enumerate(_parts(images, num_shards)):
    path = os.path.join(folder, f'imagenet-{split}-{i:06d}.tar')
    with tarfile.open(path, 'w') as tar:
      for image in part:
        key, suffix = os.path.splitext(image['name'])
        facts = json.dumps({'filename': image['name']}).encode()
        label = str(image['label']).encode()
        for name, data in (
          (f'{key}.cls', label),
          (f'{key}{suffix}', image['jpeg']),
          (f'{key}.json', facts),
        ):
          member = tarfile.TarInfo(name)
          member.size = len(data)
          tar.addfile(member, io.BytesIO(data))


def _parts(
  images: Sequence[Record], num_shards: int
) -> Iterator[Sequence[Record]]:
  size = -(-len(images) // num_shards)
  for i in range(num_shards):
    yield images[i * size : (i + 1) * size]
