"""Writes images into small parquet files, and opens them."""

import numpy as np

from experiments.benchmarks.imagenet import source as imagenet
from experiments.benchmarks.imagenet.standin_shards import write_parquet

NAME = 'train-00000-of-00001.parquet'
CLASSES = ('tench', 'goldfish')
COUNT = 50


def photographs(count=COUNT, largest=150_000):
  """Makes bytes like JPEG's: equal headers, then noise; some are equal."""
  rng = np.random.default_rng(0)
  header = bytes(range(256)) + b'\xff\xd8' * 40
  made = [
    header + rng.bytes(int(rng.integers(largest))) for i in range(count - 3)
  ]
  return [*made, made[0], b'', bytes(largest // 2)]


def records(images):
  return [
    {'name': f'{i}.JPEG', 'jpeg': image, 'label': i % 2}
    for i, image in enumerate(images)
  ]


def open_source(folder, count=COUNT, **numbers):
  numbers = {'num_examples': count, 'num_classes': 2} | numbers
  return imagenet.open_source(str(folder), 'train', **numbers)


def write(folder, images, rows=20, **options):
  write_parquet(str(folder), 'train', images, CLASSES, 1, rows, **options)
  return folder / NAME


def table(images, **columns):
  table = {
    'image': [{'bytes': x, 'path': f'{i}.JPEG'} for i, x in enumerate(images)],
    'label': [i % 2 for i in range(len(images))],
  }
  return table | columns


OPTIONS = {
  'default': {},
  'plain': {'use_dictionary': False},
  'uncompressed': {'compression': 'none'},
  'uncompressed, plain': {'compression': 'none', 'use_dictionary': False},
  'second version': {'data_page_version': '2.0'},
  'second version, plain': {
    'data_page_version': '2.0',
    'use_dictionary': False,
  },
  'second version, uncompressed': {
    'data_page_version': '2.0',
    'compression': 'none',
  },
  'small pages': {
    'use_dictionary': False,
    'data_page_size': 1000,
    'write_batch_size': 3,
  },
  'dictionary, then plain': {
    'write_batch_size': 4,
    'dictionary_pagesize_limit': 10**5,
  },
  'contents': {'use_content_defined_chunking': True, 'write_page_index': True},
  'checksums': {'write_page_checksum': True},
  'one row group': {'rows': 1000},
}
