"""The digits at other sizes than that of the data set."""

import jax
import numpy as np
import pytest

from configs import digits, fashion_mnist
from experiments import benchmarks, models


def create(image_size):
  config = digits.get_config()
  config.task.image_size = image_size
  return benchmarks.create(**config.task)


@pytest.fixture(scope='module')
def record():
  return create(8).source('test', None)[0]


def test_at_their_own_size_they_are_as_they_come(record):
  image = create(8).eval_example(record)['image']
  assert np.array_equal(image, record['image'][..., None])


def test_they_are_enlarged_after_they_were_moved(record):
  small, large = (
    create(size).train_example(record, np.random.default_rng(0))['image']
    for size in (8, 28)
  )
  assert not np.array_equal(small, record['image'][..., None])
  # The same interpolation, to float32's rounding of a few sums of up to 16.
  enlarged = jax.image.resize(small, (28, 28, 1), 'linear')
  np.testing.assert_allclose(large, enlarged, atol=1e-5)


def test_a_model_of_clothes_fits_the_digits():
  config = digits.get_config('as_fashion')
  clothes = fashion_mnist.get_config()
  assert config.model == clothes.model
  assert str(models.model_shapes(config)) == str(models.model_shapes(clothes))
