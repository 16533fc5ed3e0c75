"""Images are found in parquet files, however those were written."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.benchmarks.imagenet import known, parquet
from experiments.benchmarks.imagenet import source as imagenet
from experiments.benchmarks.imagenet.parquet import pages
from experiments.benchmarks.imagenet.standin_shards import write_parquet
from experiments.errors import DamagedRecordError
from tests.benchmarks.imagenet.parquet_files import (
  CLASSES,
  COUNT,
  NAME,
  open_source,
  OPTIONS,
  photographs,
  records,
  table,
  write,
)


@pytest.mark.parametrize('options', OPTIONS)
def test_each_image_has_a_place(tmp_path, options):
  images = records(photographs())
  write(tmp_path, images, **OPTIONS[options])
  source = open_source(tmp_path)
  order = np.random.default_rng(1).permutation(COUNT).tolist()
  assert [source[i] for i in order] == [images[i] for i in order]
  assert None not in source._places.values()


@pytest.mark.parametrize(
  'options',
  [
    {'compression': 'zstd'},
    {'compression': 'gzip', 'data_page_version': '2.0'},
    {'column_encoding': 'DELTA_LENGTH_BYTE_ARRAY', 'use_dictionary': False},
  ],
)
def test_pages_of_other_kinds_are_decoded_as_a_whole(tmp_path, options):
  if encoding := options.pop('column_encoding', None):
    options['column_encoding'] = {parquet.IMAGE: encoding}
  images = records(photographs(10, 3000))
  write(tmp_path, images, **options)
  source = open_source(tmp_path, 10)
  assert [source[i] for i in (7, 1, 8, 3)] == [images[i] for i in (7, 1, 8, 3)]
  assert set(source._places.values()) == {None}


@pytest.mark.parametrize('number', [np.iinfo(np.int64).max, 0])
def test_data_that_compresses_well_is_read_too(tmp_path, number, monkeypatch):
  """Also with more elements than are looked at."""
  if not number:
    monkeypatch.setattr(pages.snappy, 'MAX_ELEMENTS', 1000)
  rng = np.random.default_rng(0)
  words = [rng.bytes(7) for _ in range(50)]
  images = records(
    [b''.join(words[i] for i in rng.integers(50, size=9000)) for _ in range(9)]
  )
  write(tmp_path, images)
  source = open_source(tmp_path, 9)
  assert list(source) == images
  assert (None in source._places.values()) == (not number)


def only_needed_bytes(source, index):
  """Returns how many bytes are read for an image."""
  read = []
  with pytest.MonkeyPatch.context() as patch:
    pread = pages.shards.read_at
    patch.setattr(
      pages.shards,
      'read_at',
      lambda file, offset, size: read.append(size) or pread(file, offset, size),
    )
    image = source[index]['jpeg']
  return sum(read), len(image)


def test_only_an_image_and_no_row_group_is_read(tmp_path):
  rng = np.random.default_rng(0)
  images = records([rng.bytes(100_000) for _ in range(40)])
  path = write(tmp_path, images, rows=40)
  source = open_source(tmp_path, 40)
  first, _ = only_needed_bytes(source, 20)
  assert first < 0.2 * path.stat().st_size  # It looks where all 40 are.
  for i in range(40):
    count, size = only_needed_bytes(source, i)
    # Blocks of 64 KiB that the image begins and ends in are read whole.
    assert size <= count < size + 2 * 2**16 + 100


def test_null_images_are_damaged_records(tmp_path):
  images = photographs(10, 3000)
  images[2] = images[9] = None
  for compression in ('snappy', 'gzip'):
    write(tmp_path, records(images), rows=5, compression=compression)
    source = open_source(tmp_path, 10)
    assert source[3]['jpeg'] == images[3]
    for i in (2, 9):
      message = rf'{NAME}, row {i % 5} of row group {i // 5}, {i}\.JPEG: .* no'
      with pytest.raises(DamagedRecordError, match=message):
        source[i]


@pytest.mark.parametrize(
  'types',
  [
    {'label': pa.int32()},
    {'label': pa.uint8()},
    {'image': pa.struct({'bytes': pa.large_binary(), 'path': pa.string()})},
    {
      'image': pa.struct(
        [
          pa.field('path', pa.large_string(), nullable=False),
          pa.field('bytes', pa.binary(), nullable=False),
        ]
      )
    },
  ],
)
def test_other_types_of_columns(tmp_path, types):
  images = photographs(8, 3000)
  array = pa.table(
    {
      name: pa.array(values, types.get(name))
      for name, values in table(images, extra=list('abcdefgh')).items()
    }
  )
  if 'image' in types and not types['image'].field(0).nullable:
    field = pa.field('image', types['image'], nullable=False)
    array = array.set_column(0, field, array['image'])
  pq.write_table(array, tmp_path / NAME, row_group_size=3)
  source = open_source(tmp_path, 8)
  assert list(source) == records(images)
  # Without names of classes they are numbers.
  assert imagenet.classes(str(tmp_path), 2) == ['0', '1']


def test_images_without_paths_are_named_by_their_rows(tmp_path):
  images = [{'bytes': b'a'}, {'bytes': b'b'}]
  pq.write_table(pa.table({'image': images, 'label': [0, 1]}), tmp_path / NAME)
  source = open_source(tmp_path, 2)
  assert source[1]['name'] == 'train-00000-of-00001_00000001'
  pq.write_table(
    pa.table(
      table([b'a', b'b'], image=[{'bytes': b'a', 'path': '../b/c'}] * 2)
    ),
    tmp_path / NAME,
  )
  assert open_source(tmp_path, 2)[0]['name'] == 'c'


def test_the_names_of_the_classes_are_kept_in_the_file(tmp_path):
  write(tmp_path, records([b'a', b'b']))
  assert imagenet.classes(str(tmp_path), 2) == list(CLASSES)
  with pytest.raises(ValueError, match=r'has 2 classes, but .*num_classes=3'):
    imagenet.classes(str(tmp_path), 3)
  with pytest.raises(ValueError, match=r'has 2 classes, but .*num_classes=3'):
    open_source(tmp_path, 2, num_classes=3)


def test_imagenet_s_classes_in_another_order_are_refused(tmp_path):
  wnids = known.known_wnids()
  for names in (wnids, wnids[::-1]):
    write_parquet(str(tmp_path), 'train', records([b'a', b'b']), names, 1)
    if names == wnids:
      assert imagenet.classes(str(tmp_path), 1000) == wnids
  with pytest.raises(ValueError, match='in another order than that of'):
    imagenet.classes(str(tmp_path), 1000)


@pytest.mark.parametrize(
  'metadata',
  [
    '{', '[]', '{"info": null}', '[' * 10**5,
    json.dumps({'info': {'features': {'label': {'names': [1, 2]}}}}),
  ],
)  # fmt: skip
def test_other_metadata_are_passed_over(tmp_path, metadata):
  made = pa.table(table([b'a', b'b']))
  made = made.replace_schema_metadata({'huggingface': metadata})
  pq.write_table(made, tmp_path / NAME)
  assert imagenet.classes(str(tmp_path), 2) == ['0', '1']
  assert len(open_source(tmp_path, 2)) == 2
