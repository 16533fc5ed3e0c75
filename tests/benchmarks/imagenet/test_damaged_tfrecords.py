"""Damaged TFRecord files are named, and nothing is converted by half."""

import os
import re
import shutil
import struct

from array_record.python import array_record_module
import pytest

from experiments.benchmarks.imagenet import tfrecords
from experiments.errors import DataNotFoundError, PreparationError
from tests.benchmarks.imagenet.tfrecord_files import (
  convert,
  masked_crc,
  open_all,
  shard_name,
  VERSION,
)


def flip(path, place):
  data = bytearray(path.read_bytes())
  data[place] ^= 4
  path.write_bytes(data)


def lie_about_the_length(path):
  """Says, with a right checksum, that a record has 2^60 bytes."""
  length = struct.pack('<Q', 2**60)
  path.write_bytes(length + masked_crc(length) + path.read_bytes()[12:])


def second(path):
  """Returns where the second record begins."""
  (length,) = struct.unpack('<Q', path.read_bytes()[:8])
  return length + 16


DAMAGE = {
  'length': (
    lambda path: flip(path, 3),
    r'record 1 at byte 0: Its checksum is wrong',
  ),
  'content': (
    lambda path: flip(path, second(path) + 100),
    r'record 2 at byte \d{3,}: Its checksum is wrong',
  ),
  'checksum': (
    lambda path: flip(path, second(path) - 1),
    r'record 1 at byte 0: Its checksum is wrong',
  ),
  'cut': (
    lambda path: os.truncate(path, path.stat().st_size - 5),
    r'record 8 at byte \d+: The file is cut off',
  ),
  'cut header': (
    lambda path: os.truncate(path, second(path) + 7),
    r'record 2 at byte \d+: The file is cut off',
  ),
  'cut between': (
    lambda path: os.truncate(path, second(path)),
    r'has 1 records, but dataset_info\.json says 8\.',
  ),
  'empty': (
    lambda path: os.truncate(path, 0),
    r'has 0 records, but dataset_info\.json says 8\.',
  ),
  'long': (
    lie_about_the_length,
    r'record 1 at byte 0: The file is cut off',
  ),
  'pipe': (
    lambda path: (path.unlink(), os.mkfifo(path)),
    r'It is not a regular file',
  ),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_files_are_named_and_only_they_are_converted_again(
  prepared, damage
):
  change, message = DAMAGE[damage]
  path = prepared / 'tfds' / VERSION / shard_name('train', 1)
  whole = path.read_bytes()
  change(path)
  other = path.with_name(shard_name('validation', 0))
  shutil.copy(other, prepared / 'kept')
  os.truncate(other, 20)
  with pytest.raises(PreparationError) as caught:
    convert(prepared)
  text = str(caught.value)
  assert text.startswith('2 of the files in ')
  assert f'cannot be used: {path.name}, {other.name}. {path}' in text
  assert re.search(message, text)
  assert not (prepared / 'data' / VERSION).exists()
  path.unlink()
  path.write_bytes(whole)
  shutil.copy(prepared / 'kept', other)
  assert convert(prepared)[0].startswith('Converting 2 of 5 files')
  open_all(prepared / 'data')


def test_another_data_set_does_not_go_on_with_what_is_left(prepared):
  path = prepared / 'tfds' / VERSION / shard_name('train', 1)
  flip(path, 3)
  with pytest.raises(PreparationError):
    convert(prepared)
  flip(path, 3)
  edit('ILSVRC 2012', 'Others')(path.parent)
  assert convert(prepared)[0].startswith('Converting 5 of 5 files')


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
  prepared, monkeypatch
):
  writer = array_record_module.ArrayRecordWriter
  opened = []

  def failing(path, options):
    opened.append(path)
    if len(opened) == 3:
      raise RuntimeError('No space left on device')
    return writer(path, options)

  monkeypatch.setattr(array_record_module, 'ArrayRecordWriter', failing)
  with pytest.raises(OSError, match=r'cannot be written: No space left on'):
    convert(prepared)
  assert convert(prepared)[0].startswith('Converting 3 of 5 files')
  open_all(prepared / 'data')


def test_what_a_kill_leaves_is_removed(prepared, monkeypatch):
  def killed(path):
    yield b'record'
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(tfrecords, 'read', killed)
    with pytest.raises(KeyboardInterrupt):
      convert(prepared)
  (begun,) = (prepared / 'data' / 'imagenet2012').iterdir()
  assert len(list(begun.glob('*.tmp'))) == 1
  assert convert(prepared)[0].startswith('Converting 5 of 5 files')
  assert not list((prepared / 'data' / VERSION).glob('*.tmp'))


def test_there_must_be_room(prepared, monkeypatch):
  usage = type('Usage', (), {'free': 1000})
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(PreparationError, match=r'GB free, but .* are needed'):
    convert(prepared)
  assert not (prepared / 'data').exists()


def edit(before, after):
  def change(folder):
    path = folder / tfrecords.INFO
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))

  return change


@pytest.mark.parametrize(
  ('change', 'error', 'message'),
  [
    (
      lambda folder: (folder / shard_name('train', 2)).unlink(),
      *(DataNotFoundError, r'lacks 1 of its files, the first one .*-00002-of'),
    ),
    (
      lambda folder: (folder / tfrecords.INFO).unlink(),
      *(
        PreparationError,
        r'No dataset_info\.json in .*/tfds has imagenet2012/',
      ),
    ),
    (
      edit('"tfrecord"', '"riegeli"'),
      *(PreparationError, r'was prepared as riegeli, not as TFRecord files\.'),
    ),
    (
      edit('"validation"', '"test"'),
      *(PreparationError, r"has no split 'validation'; it has: train, test\."),
    ),
    (
      edit('{DATASET}-', '../{DATASET}-'),
      *(PreparationError, r"names a file '\.\./imagenet2012-train\.tfrecord"),
    ),
    (
      edit('"5.1.0"', '"../5.1.0"'),
      *(ValueError, r"Invalid version '\.\./5\.1\.0'"),
    ),
  ],
)
def test_what_cannot_be_converted_is_named_before_anything_is_written(
  prepared, change, error, message
):
  change(prepared / 'tfds' / VERSION)
  with pytest.raises(error, match=message):
    convert(prepared)
  assert not (prepared / 'data').exists()
