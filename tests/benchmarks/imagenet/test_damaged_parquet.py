"""Parquet files that are damaged, or of other columns, are named."""

import contextlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.benchmarks.imagenet import parquet
from experiments.benchmarks.imagenet import source as imagenet
from experiments.benchmarks.imagenet.parquet import pages
from experiments.errors import DamagedRecordError, DataNotFoundError
from tests.benchmarks.imagenet.parquet_files import (
  NAME,
  open_source,
  OPTIONS,
  photographs,
  records,
  table,
  write,
)


@pytest.mark.parametrize(
  ('columns', 'message'),
  [
    (
      {'image': [b'a', b'b']},
      r'columns image \(BYTE_ARRAY\), label \(INT64\);',
    ),
    ({'label': ['0', '1']}, r'label \(BYTE_ARRAY\); ImageNet has image\.bytes'),
    ({'label': [[0], [1]]}, r'label\.list\.element'),
    ({'label': [0, None]}, '1 rows with no label'),
    ({'label': [0, -1]}, r'has the label -1, but task\.num_classes=2 allows'),
    ({'image': [{'bytes': [b'a'], 'path': 'a'}] * 2}, 'columns image.bytes.li'),
  ],
)
def test_wrong_columns_are_named(tmp_path, columns, message):
  pq.write_table(pa.table(table([b'a', b'b'], **columns)), tmp_path / NAME)
  with pytest.raises(ValueError, match=f'{NAME}.*{message}'):
    open_source(tmp_path, 2)


@pytest.mark.parametrize('size', [0, 3, 20, -3, -40])
def test_a_file_that_was_cut_off_is_named(tmp_path, size):
  path = write(tmp_path, records(photographs(4, 100)))
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match=f'{NAME} is not a whole parquet file'):
    open_source(tmp_path, 4)


def test_a_wrong_number_of_images_is_named(tmp_path):
  write(tmp_path, records(photographs(4, 100)))
  with pytest.raises(ValueError, match=r'has 4 images, but task\.num_train=5'):
    open_source(tmp_path, 5)


def test_large_row_groups_that_would_be_decoded_are_refused(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(parquet, 'MAX_DECODED_BYTES', 1000)
  images = records(photographs(4, 3000))
  write(tmp_path, images)
  assert list(open_source(tmp_path, 4)) == images
  write(tmp_path, images, compression='zstd')
  with pytest.raises(ValueError, match=r'4 images in .* bytes of ZSTD'):
    open_source(tmp_path, 4)


@pytest.mark.parametrize(
  'options', ['default', 'uncompressed, plain', 'second version, plain']
)
def test_damage_gives_an_image_or_a_damaged_record(tmp_path, options):
  """No other error, wherever bytes of the images' column are changed."""
  images = records(photographs(6, 400))
  path = write(tmp_path, images, **OPTIONS[options])
  column = pq.read_metadata(path).row_group(0).column(0)
  content = path.read_bytes()
  rng = np.random.default_rng(0)
  messages = []
  for at in [*range(4, 70), *rng.integers(4, column.total_compressed_size, 60)]:
    changed = bytearray(content)
    changed[at] ^= int(rng.integers(1, 256))
    path.write_bytes(changed)
    source = open_source(tmp_path, 6)
    for i in range(6):
      try:
        assert isinstance(source[i]['jpeg'], bytes)
      except DamagedRecordError as error:
        messages.append(str(error))
  assert len(messages) > 20
  assert all(f'{NAME}, row ' in message for message in messages)


def test_a_claim_of_a_large_image_takes_no_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(pages.shards, 'MAX_IMAGE_BYTES', 1000)
  write(tmp_path, records([bytes(1001), bytes(1000)]))
  source = open_source(tmp_path, 2)
  assert source[1]['jpeg'] == bytes(1000)
  with pytest.raises(DamagedRecordError, match='the image has 1001 bytes'):
    source[0]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
  write(tmp_path, records([b'a', b'b']))
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  for read in (open_source, lambda path: imagenet.classes(str(path), 2)):
    with pytest.raises(DataNotFoundError, match=r"pip install -e '\.\[parquet"):
      read(tmp_path)


def test_damage_to_the_footer_is_one_error_that_names_the_file(tmp_path):
  """No other error and no end of the process, which pyarrow can cause."""
  images = records(photographs(6, 100))
  path = write(tmp_path, images, write_page_index=True)
  content = path.read_bytes()
  size = int.from_bytes(content[-8:-4], 'little')
  rng = np.random.default_rng(0)
  messages = []
  for at in rng.integers(len(content) - 8 - size, len(content), 100):
    changed = bytearray(content)
    changed[at] ^= int(rng.integers(1, 256))
    path.write_bytes(changed)
    try:
      source = open_source(tmp_path, 6)
      for i in range(6):
        with contextlib.suppress(DamagedRecordError):
          assert source[i].keys() == {'name', 'jpeg', 'label'}
    except ValueError as error:
      messages.append(str(error))
  assert len(messages) > 20
  # With fewer images or classes the footer may be whole.
  assert all(NAME in m or 'task.num_' in m for m in messages)


def test_a_codec_that_does_not_exist_is_named(tmp_path):
  """pyarrow would end the process."""
  path = write(tmp_path, records([b'a', b'b']))
  snappy, none = (b'\x05bytes\x15' + x for x in (b'\x02', b'\x55'))
  content = path.read_bytes()
  assert content.count(snappy) == 1
  path.write_bytes(content.replace(snappy, none))
  with pytest.raises(ValueError, match=f'{NAME} is not a whole parquet file'):
    open_source(tmp_path, 2)
