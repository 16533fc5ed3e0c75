"""Any part of a Snappy stream is found without what is before it."""

import numpy as np
import pyarrow as pa
import pytest

from experiments.benchmarks.imagenet.parquet import snappy
from experiments.errors import DamagedRecordError

CODEC = pa.Codec('snappy')


def text(size):
  """Makes data with many copies, some of which overlap themselves."""
  rng = np.random.default_rng(0)
  words = [rng.bytes(n) for n in range(1, 40)] + [b'ab' * 50, bytes(300)]
  made = b''.join(words[i] for i in rng.integers(len(words), size=size // 20))
  return made[:size]


DATA = {
  'one byte': b'x',
  'noise': np.random.default_rng(0).bytes(200_000),
  'zeros': bytes(150_000),
  'text': text(150_000),
  'two whole blocks': text(2 * snappy.BLOCK),
}


@pytest.fixture
def elements(tmp_path):
  """Opens streams, written in the middle of a file."""
  files = []

  def open_elements(stream, size):
    path = tmp_path / str(len(files))
    path.write_bytes(b'before' + stream + b'after')
    files.append(path.open('rb'))
    end = 6 + len(stream)
    window = snappy.Window(files[-1].fileno(), end)
    return snappy.Elements(window, 6, end, size), files[-1].fileno()

  yield open_elements
  for file in files:
    file.close()


@pytest.mark.parametrize('name', DATA)
def test_any_part_is_read(elements, name):
  data = DATA[name]
  found, file = elements(CODEC.compress(data, asbytes=True), len(data))
  rng = np.random.default_rng(1)
  parts = np.sort(rng.integers(len(data) + 1, size=(40, 2))).tolist()
  parts += [[0, len(data)], [len(data), len(data)]]
  for start, end in parts:
    assert found.blocks.read(file, start, end - start) == data[start:end]
    few = min(end - start, 9)
    assert found.peek(start, few) == data[start : start + few]
  with pytest.raises(DamagedRecordError, match='the page ends before'):
    found.peek(len(data), 1)


@pytest.mark.parametrize('name', ['one byte', 'text'])
def test_damaged_streams_are_named(elements, name):
  data = DATA[name]
  stream = CODEC.compress(data, asbytes=True)
  for damaged in (b'', stream[:-1], stream + b'\0', b'\xff' * 11 + stream):
    with pytest.raises(DamagedRecordError):
      elements(damaged, len(data))
  with pytest.raises(DamagedRecordError):
    elements(stream, len(data) + 1)


@pytest.mark.parametrize(
  ('stream', 'size'),
  [
    # A literal beyond 64 KiB, and a copy from before it.
    (b'\x81\x80\x04' + b'\xf8\x00\x00\x01' + bytes(snappy.BLOCK + 1), 65537),
    (b'\x84\x80\x04\xf4\xff\xff' + bytes(snappy.BLOCK) + b'\x01\x01', 65540),
    (b'\x04\x01\x01', 4),  # A copy of what is before the data.
  ],
)
def test_blocks_that_need_others_have_no_places(elements, stream, size):
  with pytest.raises(snappy.UnlocatedError):
    elements(stream, size)


def test_a_copy_of_nothing_is_damage(elements):
  with pytest.raises(DamagedRecordError, match='a copy of nothing at byte 9'):
    elements(b'\x05\x00a\x01\x00', 5)
