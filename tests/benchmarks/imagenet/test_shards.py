"""Parquet files and tar shards hold the same images as folders do."""

import itertools
import pickle
import posixpath
import shutil

import numpy as np
import pytest

from configs import imagenet as config
from experiments import benchmarks, pipeline
from experiments.benchmarks.imagenet import shards, standin_shards
from experiments.benchmarks.imagenet import source as imagenet
from experiments.errors import DamagedRecordError, DataNotFoundError

COUNTS = {'train': 24, 'validation': 12}
LAYOUTS = ('parquet', 'tars')
WRITERS = {
  'parquet': lambda folder, split, images, count: standin_shards.write_parquet(
    folder, split, images, 'ab', count
  ),
  'tars': standin_shards.write_tars,
}


def open_source(data_dir, split='train', **numbers):
  numbers = {'num_examples': COUNTS[split], 'num_classes': 12} | numbers
  return imagenet.open_source(str(data_dir), split, **numbers)


def images(count=4):
  return [
    {'name': f'{i}.jpg', 'jpeg': b'%d' % i * 9, 'label': i % 2}
    for i in range(count)
  ]


@pytest.mark.parametrize('split', COUNTS)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_their_images_are_those_of_folders_in_the_same_order(
  mini_imagenet_dir, layout, split
):
  expected = [
    {**record, 'name': posixpath.basename(record['name'])}
    for record in open_source(mini_imagenet_dir / 'folders', split)
  ]
  source = open_source(mini_imagenet_dir / layout, split)
  assert list(source) == expected
  sent = pickle.loads(pickle.dumps(source))
  assert [sent[i] for i in (5, 0, -1)] == [expected[i] for i in (5, 0, -1)]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_training_batches_are_those_of_folders(mini_imagenet_dir, layout):
  settings = config.get_config('tiny').task
  task = benchmarks.create(
    **{**settings, 'num_train': 24, 'num_eval': 12, 'image_size': 32}
  )

  def batches(form):
    stream = pipeline.train_batches(
      task,
      task.source('train', str(mini_imagenet_dir / form)),
      batch_size=8,
      seed=5,
      max_damaged=0.1,
    )
    found = list(itertools.islice(stream, 4))
    stream.close()
    return found

  for ours, same in zip(batches(layout), batches('folders'), strict=True):
    assert ours.keys() == same.keys()
    for name, array in ours.items():
      np.testing.assert_array_equal(array, same[name])


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_source_of_more_images_grows_little(tmp_path, layout):
  sizes = []
  for count in (2, 2000):
    WRITERS[layout](str(tmp_path / str(count)), 'train', images(count), 1)
    source = open_source(
      tmp_path / str(count), num_examples=count, num_classes=2
    )
    sizes.append(len(pickle.dumps(source)))
  assert sizes[1] - sizes[0] < 50 * 2000


@pytest.mark.parametrize('layout', LAYOUTS)
def test_names_that_people_give_to_shards(tmp_path, layout):
  WRITERS[layout](str(tmp_path / 'here'), 'train', images(), 1)
  (path,) = (tmp_path / 'here').iterdir()
  expected = list(open_source(path.parent, num_examples=4, num_classes=2))
  for split, name in {
    'train': 'imagenet1k-train-0000',
    'validation': 'imagenet1k-validation-00',
    'train ': 'train-00000-of-00001-1359597a978bc4fa',
    'validation ': 'valid-00000-of-00001',
    'validation  ': 'data/val-000000',
    'train  ': 'data/images_train-0',
  }.items():
    new = tmp_path / name.replace('/', '-') / f'{name}{path.suffix}'
    new.parent.mkdir(parents=True)
    shutil.copy(path, new)
    top = tmp_path / name.replace('/', '-')
    source = open_source(top, split.strip(), num_examples=4, num_classes=2)
    assert list(source) == expected
    (new.parent / f'.{new.name}').touch()  # As macOS adds.
    (new.parent / f'test-00000-of-00001{path.suffix}').touch()
    assert len(shards.find(str(top), split.strip(), path.suffix)) == 1


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (
      ['train-00000-of-00003', 'train-00002-of-00003'],
      'has 2 of 3 shards like train-00000-of-00003.* missing is number 1',
    ),
    (['train-00000-of-99999'], 'has 1 of 99999 shards .* missing is number 1'),
    (['x-train-0001', 'x-train-0002'], 'has 2 of 3 .* missing is number 0'),
    (
      ['train-00000-of-00001', 'train-00000-of-00002'],
      'several sets .* begins with train-00000-of-00001.*, another with train-',
    ),
    (['a-train-0', 'b-train-0'], 'several sets'),
    (['val-0', 'valid-0'], 'several sets'),
    (
      ['train-0-of-1', 'train-0-of-1-0123456789abcdef'],
      r'shard 0 twice: train-0-of-1-0123456789abcdef\.tar, train-0-of-1\.tar',
    ),
  ],
)
def test_a_set_that_is_not_whole_is_named(tmp_path, names, message):
  for name in names:
    (tmp_path / f'{name}.tar').touch()
  split = 'train' if 'train' in names[0] else 'validation'
  with pytest.raises((DataNotFoundError, ValueError), match=message):
    open_source(tmp_path, split)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
  ('split', 'label', 'message'),
  [
    ('train', 2, r'-0*1[-.].* has the label 2, but .*num_classes=2 .* 0 to 1'),
    ('validation', 7, 'has the label 7, but'),
    ('train', 0, 'has 1 classes, but .*num_classes=2: the largest label is 0'),
  ],
)
def test_labels_of_other_classes_are_an_error(
  tmp_path, layout, split, label, message
):
  records = [{**x, 'label': 0} for x in images()]
  records[3]['label'] = label
  WRITERS[layout](str(tmp_path), split, records, 2)
  with pytest.raises(ValueError, match=message):
    open_source(tmp_path, split, num_examples=4, num_classes=2)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_shard_that_becomes_shorter_damages_its_images(tmp_path, layout):
  WRITERS[layout](str(tmp_path), 'train', images(), 2)
  source = open_source(tmp_path, num_examples=4, num_classes=2)
  path = shards.find(str(tmp_path), 'train', f'.{layout.removesuffix("s")}')[1]
  with open(path, 'r+b') as file:
    file.truncate(3)
  assert source[1]['name'] == '1.jpg'
  with pytest.raises(
    DamagedRecordError, match=r'1\S+, .*2\.jpg: the file ends'
  ):
    source[2]
