"""People's own images become the records that the data sets have."""

import os

import numpy as np
from PIL import Image
import pytest

from configs import digits, fashion_mnist, imagenet
from experiments import benchmarks
from experiments.benchmarks.images import files
from experiments.errors import DamagedRecordError


def write(path, pixels):
  Image.fromarray(pixels).save(path)
  return str(path)


def read(task, path):
  """The record of a file."""
  ((_, record),) = task.file_reader.read([str(path)])
  return record


def test_images_of_imagenet_are_examples_as_in_its_folders(mini_imagenet_dir):
  config = imagenet.get_config('tiny')
  config.task.num_eval = 12
  task = benchmarks.create(**config.task)
  data_dir = mini_imagenet_dir / 'folders'
  for record in task.source('validation', str(data_dir)):
    (path,) = data_dir.rglob(record['name'])
    ours, theirs = map(task.eval_example, (read(task, path), record))
    np.testing.assert_array_equal(ours['image'], theirs['image'])


@pytest.mark.parametrize(('config', 'size'), [(digits, 8), (fashion_mnist, 28)])
def test_small_images_are_the_central_square_in_grey(config, size, tmp_path):
  task = benchmarks.create(**config.get_config().task)
  grey = np.random.default_rng(0).integers(256, size=(size, size))
  grey = grey.astype(np.uint8)
  exact = read(task, write(tmp_path / 'exact.png', grey))
  spec = task.example_spec()
  example = task.eval_example(exact)
  assert {k: np.shape(x) for k, x in example.items()} == {
    k: x.shape for k, x in spec.items()
  }
  # As an image from 0 to 1, to half a step of the data set's values.
  (view,) = task.display.views(example)
  shown = view.content[..., 0]
  steps = 16 if config is digits else 255
  assert np.abs(shown - grey / 255).max() <= 0.5 / steps + 1e-6
  # Larger, in colours, and with something on both sides.
  large = np.kron(grey, np.ones((3, 3), np.uint8))
  wide = np.pad(large, ((0, 0), (10, 10)), constant_values=200)
  for pixels in (large, wide, wide.T, np.stack([wide] * 3, axis=-1)):
    other = read(task, write(tmp_path / 'other.png', pixels))['image']
    expected = exact['image']
    if pixels is not large and pixels.shape[0] > pixels.shape[1]:
      expected = expected.T
    np.testing.assert_array_equal(other, expected)


def test_only_files_of_some_size_are_read(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  path.write_bytes(b'content')
  assert files.read(str(path)) == b'content'
  monkeypatch.setattr(files, 'MAX_BYTES', 6)
  with pytest.raises(DamagedRecordError, match='7 bytes; at most 6'):
    files.read(str(path))
  os.mkfifo(tmp_path / 'fifo')
  for other in (tmp_path, tmp_path / 'fifo', '/dev/null'):
    with pytest.raises(DamagedRecordError, match='not a regular file'):
      files.read(str(other))
  with pytest.raises(DamagedRecordError, match='not a path'):
    files.read('a\0b')
  with pytest.raises(FileNotFoundError):
    files.read(str(tmp_path / 'missing'))
