"""Writes small tar shards, and opens them."""

import io
import tarfile

from experiments.benchmarks.imagenet import source as imagenet

NAME = 'imagenet-train-000000.tar'
MEMBERS = (('a.jpg', b'A'), ('a.cls', b'0'), ('b.cls', b'1'), ('b.png', b'BB'))


def open_source(folder, count=2, **numbers):
  numbers = {'num_examples': count, 'num_classes': 2} | numbers
  return imagenet.open_source(str(folder), 'train', **numbers)


def write(folder, members=MEMBERS, name=NAME, **options):
  """Writes a shard of (name or TarInfo, content)."""
  path = folder / name
  with tarfile.open(path, 'w', **options) as tar:
    for member, data in members:
      if isinstance(member, str):
        member = tarfile.TarInfo(member)
        member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  return path


def contents(source):
  return [(x['name'], x['jpeg'], x['label']) for x in source]


EXPECTED = [('a.jpg', b'A', 0), ('b.png', b'BB', 1)]


def indices(folder):
  return sorted(path.name for path in folder.glob('*.npy'))
