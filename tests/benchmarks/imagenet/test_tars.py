"""Samples are read from tar shards; strange and damaged ones are named."""

import gzip
import tarfile

import numpy as np
import pytest

from experiments.benchmarks.imagenet import tars
from experiments.errors import DamagedRecordError
from tests.benchmarks.imagenet.tar_files import (
  contents,
  EXPECTED,
  indices,
  MEMBERS,
  NAME,
  open_source,
  write,
)


@pytest.mark.parametrize(
  'options',
  [
    {'format': tarfile.USTAR_FORMAT},
    {'format': tarfile.GNU_FORMAT},
    {'format': tarfile.PAX_FORMAT},
    {'format': tarfile.PAX_FORMAT, 'pax_headers': {'comment': 'x' * 2000}},
  ],
)
@pytest.mark.parametrize('prefix', ['', './', 'n01/' * 2, 'long_' * 40 + '/'])
def test_formats_and_folders(tmp_path, options, prefix):
  if len(prefix) > 100 and options['format'] == tarfile.USTAR_FORMAT:
    prefix = 'long/' * 30
  write(tmp_path, [(prefix + name, data) for name, data in MEMBERS], **options)
  assert contents(open_source(tmp_path)) == EXPECTED


def test_times_with_fractions_as_webdataset_writes_them(tmp_path):
  """Each member then has a header of its own with the time."""
  members = []
  for name, data in MEMBERS:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), 1.5
    members.append((member, data))
  write(tmp_path, members)
  assert contents(open_source(tmp_path)) == EXPECTED


def test_other_members_are_passed_over(tmp_path):
  folder = tarfile.TarInfo('folder')
  folder.type = tarfile.DIRTYPE
  write(
    tmp_path,
    [
      (folder, b''),
      ('README.md', b'text'),
      ('._a.jpg', b'of macOS'),
      *MEMBERS[:2],
      ('a.json', b'{}'),
      ('a.seg.png', b'no image of its own'),
      ('B.JPEG', b'BB'),
      ('B.CLS', b' 1\n'),
    ],
  )
  expected = [EXPECTED[0], ('B.JPEG', b'BB', 1)]
  assert contents(open_source(tmp_path)) == expected


@pytest.mark.parametrize(
  ('members', 'message'),
  [
    ([('b.jpg', b'B')], r'b\.jpg: there is no \.cls with a number beside it'),
    ([('b.jpg', b'B'), ('b.cls', b'cat')], r'b\.jpg: there is no \.cls'),
    ([('b.jpg', b'B'), ('b.cls', b'-1')], r'b\.jpg: there is no \.cls'),
    ([('b.jpg', b'B'), ('b.cls', b'1' * 99)], r'b\.jpg: there is no \.cls'),
    ([('b.cls', b'1')], r'train-000000\.tar, b: there is no image'),
  ],
)
def test_a_sample_that_is_not_whole_is_damaged(tmp_path, members, message):
  write(tmp_path, [*members, ('c.jpg', b'C'), ('c.cls', b'1')])
  source = open_source(tmp_path)
  assert source[1] == {'name': 'c.jpg', 'jpeg': b'C', 'label': 1}
  with pytest.raises(DamagedRecordError, match=message):
    source[0]


def test_a_claim_of_a_large_image_takes_no_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(tars.shards, 'MAX_IMAGE_BYTES', 1)
  write(tmp_path)
  source = open_source(tmp_path)
  assert source[0]['jpeg'] == b'A'
  with pytest.raises(
    DamagedRecordError, match=r'b\.png: the image has 2 bytes'
  ):
    source[1]


def linked(kind):
  member = tarfile.TarInfo('b.jpg')
  member.type, member.linkname = kind, '/etc/passwd'
  return [*MEMBERS, (member, b'')]


def sparse():
  member = tarfile.TarInfo('c.jpg')
  member.type, member.size = tarfile.GNUTYPE_SPARSE, 0
  return [*MEMBERS, (member, b'')]


def claimed(size):
  """Returns a long name's header that claims a size."""
  member = tarfile.TarInfo('././@LongLink')
  member.type, member.size = tarfile.GNUTYPE_LONGNAME, size
  return [*MEMBERS, (member, bytes(min(size, 2 * 2**20)))]


@pytest.mark.parametrize(
  ('members', 'message'),
  [
    ([('a.txt', b'x')], r'has no samples: no <key>\.cls and no <key>\.jpg or'),
    ([], 'has no samples'),
    ([*MEMBERS, ('b.png', b'')], r'has b\.png twice in a sample: at bytes \d+'),
    (linked(tarfile.SYMTYPE), r"'b\.jpg' is not a plain file"),
    (linked(tarfile.LNKTYPE), r"'b\.jpg' is not a plain file"),
    (linked(tarfile.FIFOTYPE), r"'b\.jpg' is not a plain file"),
    (sparse(), r'not a (whole|plain) '),
    (claimed(2 * 2**20), 'a header of 2097152 bytes'),
    ([*MEMBERS, ('c' * 300 + '.jpg', b'')], 'a name has 304 characters'),
  ],
)
def test_strange_shards_are_named(tmp_path, members, message):
  write(tmp_path, members)
  with pytest.raises(ValueError, match=f'{NAME}.* {message}'):
    open_source(tmp_path)
  assert not indices(tmp_path)


def test_shards_with_names_of_classes_say_that_numbers_are_needed(tmp_path):
  write(tmp_path, [('a.jpg', b'A'), ('a.cls', b'n01440764')])
  with pytest.raises(
    ValueError, match=r'No sample in .* has a \.cls with the nu'
  ):
    open_source(tmp_path, 1)


@pytest.mark.parametrize('place', ['header', 'first', 'data', 'end', 'text'])
def test_shards_that_are_not_whole_are_named(tmp_path, place):
  path = write(tmp_path, [('a.jpg', b'A' * 5000), *MEMBERS[1:]])
  content = path.read_bytes()
  second = 512 + 5120
  path.write_bytes(
    {
      'header': content[:second] + b'x' * 512 + content[second + 512 :],
      'first': b'\x01' * 512 + content[512:],
      'data': content[:3000],
      'end': content[: second + 100],
      'text': b'not found\n' * 100,
    }[place]
  )
  with pytest.raises(ValueError, match=f'{NAME} is (not a whole tar|damaged)'):
    open_source(tmp_path)
  assert not indices(tmp_path)


@pytest.mark.parametrize('name', [NAME, f'{NAME}.gz', NAME[:-3] + 'tgz'])
def test_compressed_shards_say_what_to_do(tmp_path, name):
  path = write(tmp_path)
  data = path.read_bytes()
  path.unlink()
  (tmp_path / name).write_bytes(gzip.compress(data))
  with pytest.raises(
    ValueError, match=r'compressed.* at random\. Unpack.*gunzip'
  ):
    open_source(tmp_path)


def test_damage_gives_samples_or_one_error(tmp_path):
  path = write(tmp_path)
  content = path.read_bytes()
  rng, messages = np.random.default_rng(0), []
  for at in rng.integers(4096, size=100):
    changed = bytearray(content)
    changed[at] ^= int(rng.integers(1, 256))
    path.write_bytes(changed)
    try:
      for record in open_source(tmp_path):
        assert record.keys() == {'name', 'jpeg', 'label'}
    except (ValueError, DamagedRecordError) as error:
      messages.append(str(error))
  assert len(messages) > 20
  assert all(str(tmp_path) in message for message in messages)
