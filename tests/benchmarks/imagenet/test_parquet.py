"""Images are found in parquet files, however those were written."""

import contextlib
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.benchmarks.imagenet import known, parquet
from experiments.benchmarks.imagenet import source as imagenet
from experiments.benchmarks.imagenet.parquet import pages
from experiments.benchmarks.imagenet.standin_shards import write_parquet
from experiments.errors import DamagedRecordError, DataNotFoundError

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


def table(images, **columns):
  table = {
    'image': [{'bytes': x, 'path': f'{i}.JPEG'} for i, x in enumerate(images)],
    'label': [i % 2 for i in range(len(images))],
  }
  return table | columns


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
