"""ImageNet's stand-in in another form, for several tests."""

import pytest

from tests.benchmarks.imagenet.tfrecord_files import VERSION, write


@pytest.fixture
def prepared(mini_imagenet_dir, tmp_path):
  """A folder with TFDS's TFRecord files in it, and where to convert them to."""
  write(mini_imagenet_dir / 'tfds' / VERSION, tmp_path / 'tfds')
  return tmp_path
