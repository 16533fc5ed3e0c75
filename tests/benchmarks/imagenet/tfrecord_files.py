"""Writes TFDS's TFRecord files of the stand-in, and converts them."""

import itertools
import json
import shutil
import struct

from array_record.python import array_record_module
import google_crc32c

from experiments.benchmarks.imagenet import source, tfrecords
from tests.benchmarks.imagenet.test_task import COUNTS

VERSION = 'imagenet2012/5.1.0'
NUM_SHARDS = {'train': 3, 'validation': 2}


def masked_crc(data):
  """TFRecord's checksum: CRC-32C, rotated right by 15 bits, plus a constant."""
  crc = f'{google_crc32c.value(data):032b}'
  rotated = int(crc[-15:] + crc[:-15], 2)
  return struct.pack('<I', (rotated + 0xA282EAD8) % 2**32)


def frame(record):
  """A record as TensorFlow's TFRecordWriter writes it."""
  length = struct.pack('<Q', len(record))
  return length + masked_crc(length) + record + masked_crc(record)


def records(path):
  reader = array_record_module.ArrayRecordReader(str(path))
  found = reader.read_all()
  reader.close()
  return found


def shard_name(split, index, suffix='tfrecord'):
  count = NUM_SHARDS[split]
  return f'imagenet2012-{split}.{suffix}-{index:05}-of-{count:05}'


def write(prepared, root):
  """Writes TFDS's folder for file_format='tfrecord', with several shards."""
  folder = root / VERSION
  folder.mkdir(parents=True)
  info = json.loads((prepared / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  info['description'] = 'ILSVRC 2012'
  for split in info['splits']:
    (path,) = prepared.glob(f'imagenet2012-{split["name"]}.array_record-*')
    found, count = records(path), NUM_SHARDS[split['name']]
    ends = [len(found) * i // count for i in range(count + 1)]
    parts = [found[i:j] for i, j in itertools.pairwise(ends)]
    split['shardLengths'] = [str(len(part)) for part in parts]
    for index, part in enumerate(parts):
      data = b''.join(map(frame, part))
      (folder / shard_name(split['name'], index)).write_bytes(data)
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  for name in ('features.json', 'label.labels.txt'):
    shutil.copy(prepared / name, folder / name)


def convert(root):
  """Returns the lines that are reported."""
  lines = []
  tfrecords.convert(str(root / 'tfds'), str(root / 'data'), lines.append)
  return lines


def open_all(data_dir):
  numbers = {'num_classes': 12}
  return {
    split: source.open_source(
      str(data_dir), split, num_examples=count, **numbers
    )
    for split, count in COUNTS.items()
  }
