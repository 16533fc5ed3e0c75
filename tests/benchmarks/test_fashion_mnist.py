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


def write(directory, images, labels):
  for name, x in zip(FILES['test'], (images, labels), strict=True):
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


def test_wrong_files_are_one_clear_error(task, data, tmp_path):
  with pytest.raises(DataNotFoundError, match=r'No t10k-images.* package'):
    task.source('test', str(tmp_path))
  images, labels = data
  write(tmp_path, images, labels[:-1])
  with pytest.raises(ValueError, match=r'labels.* not hold bytes of shape \(1'):
    task.source('test', str(tmp_path))
  path = tmp_path / FILES['test'][0]
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r'images.* is damaged: .* Get it again'):
    task.source('test', str(tmp_path))
