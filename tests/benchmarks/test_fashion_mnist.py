"""Fashion-MNIST's files, as its authors wrote them."""

import gzip
import struct

import numpy as np
import pytest

from configs import fashion_mnist
from experiments import benchmarks
from experiments.benchmarks.fashion_mnist import FILES, SIZE
from experiments.errors import DataNotFoundError

COUNT = 10_000


def write(directory, images, labels, split='test'):
  for name, x in zip(FILES[split], (images, labels), strict=True):
    header = struct.pack(f'>HBB{x.ndim}I', 0, 8, x.ndim, *x.shape)
    (directory / name).write_bytes(gzip.compress(header + x.tobytes(), 1))


@pytest.fixture(scope='module')
def task():
  return benchmarks.create(**fashion_mnist.get_config().task)


@pytest.fixture(scope='module')
def data():
  rng = np.random.default_rng(0)
  images = np.zeros((COUNT, SIZE, SIZE), np.uint8)
  images[:3] = rng.integers(0, 256, (3, SIZE, SIZE))
  return images, rng.integers(0, 10, COUNT, np.uint8)


def test_images_and_labels_are_read(task, data, tmp_path):
  write(tmp_path, *data)
  source = task.source('test', str(tmp_path))
  assert len(source) == COUNT
  example = task.eval_example(source[2])
  np.testing.assert_array_equal(example['image'][..., 0], data[0][2])
  assert example['label'] == data[1][2]


def test_training_flips_and_shifts(task, data):
  record = {'image': data[0][0], 'label': 3}
  seen = {
    task.train_example(record, np.random.default_rng(seed))['image'].tobytes()
    for seed in range(300)
  }
  assert len(seen) == 2 * 3 * 3  # Flipped or not; 3 shifts along each axis.


def test_a_part_of_the_training_images_is_held_out(task, tmp_path):
  images = np.zeros((60_000, SIZE, SIZE), np.uint8)
  images[:, 0, :4] = (
    np.arange(60_000, dtype='>u4').view(np.uint8).reshape(-1, 4)
  )
  write(tmp_path, images, np.zeros(60_000, np.uint8), 'train')
  number = lambda record: int(record['image'][0, :4].view('>u4')[0])
  whole = task.source('train', str(tmp_path))
  assert [number(whole[i]) for i in (0, 1, 59_999)] == [0, 1, 59_999]
  config = fashion_mnist.get_config()
  config.task.validation_fraction = 1 / 12
  split = benchmarks.create(**config.task)
  assert split.eval_splits == ('validation', 'test')
  seen = []
  for name, size in (('train', 55_000), ('validation', 5000)):
    source = split.source(name, str(tmp_path))
    assert len(source) == split.num_examples(name) == size
    seen += [number(record) for record in source]
  assert sorted(seen) == list(range(60_000))
  config.task.num_train = 100
  few = benchmarks.create(**config.task)
  source = few.source('train', str(tmp_path))
  assert len(source) == few.num_examples('train') == 100
  assert [number(record) for record in source] == seen[:100]
  assert few.num_examples('validation') == 5000
  config.task.test_fraction = 1 / 4
  write(tmp_path, images[:10_000], np.zeros(10_000, np.uint8), 'test')
  more = benchmarks.create(**config.task)
  tested = [number(x) for x in more.source('test', str(tmp_path))]
  assert len(tested) == more.num_examples('test') == 25_000
  assert tested[:10_000] == list(range(10_000))
  trained = [number(x) for x in more.source('train', str(tmp_path))]
  held_out = [number(x) for x in more.source('validation', str(tmp_path))]
  assert held_out == seen[55_000:]
  assert len({*tested[10_000:], *trained, *held_out}) == 15_000 + 100 + 5000
  config.task.num_train = 40_001
  with pytest.raises(ValueError, match=r'num_train=40001: .* leave 40000 imag'):
    benchmarks.create(**config.task)


def test_a_smaller_image_has_the_means_of_squares(data):
  config = fashion_mnist.get_config()
  config.task.image_size = 14
  task = benchmarks.create(**config.task)
  image = task.eval_example({'image': data[0][0], 'label': 3})['image']
  assert image.shape == task.example_spec()['image'].shape == (14, 14, 1)
  expected = data[0][0][6:8, 2:4].mean()
  assert abs(float(image[3, 1, 0]) - expected) <= 0.5
  config.task.image_size = 15
  with pytest.raises(ValueError, match=r'image_size=15 does not divide the 28'):
    benchmarks.create(**config.task)


def test_wrong_files_are_one_clear_error(task, data, tmp_path):
  with pytest.raises(DataNotFoundError, match=r'No t10k-images.* package'):
    task.source('test', str(tmp_path))
  unpacked = tmp_path / 'unpacked'
  (unpacked / FILES['test'][0]).mkdir(parents=True)
  (unpacked / 't10k-labels-idx1-ubyte').touch()
  with pytest.raises(
    DataNotFoundError,
    match=r'No t10k-images.*gz in .* has t10k-images-idx3-ubyte\.gz/,'
    r' t10k-labels-idx1-ubyte\. The four files',
  ):
    task.source('test', str(unpacked))
  images, labels = data
  write(tmp_path, images, labels[:-1])
  with pytest.raises(ValueError, match=r'labels.* not hold bytes of shape \(1'):
    task.source('test', str(tmp_path))
  path = tmp_path / FILES['test'][0]
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r'images.* is damaged: .* Get it again'):
    task.source('test', str(tmp_path))
