"""Tasks on the digits, their records, and the stream of batches."""

import functools
import itertools

import numpy as np

from configs import digits
from experiments import pipeline
from experiments.benchmarks.digits import Digits

BATCH = 64


def create(kind=Digits, **settings):
  config = dict(digits.get_config().task) | settings
  del config['name']
  return kind(**config)


@functools.cache
def records(count):
  """Returns some digits, numbered from 0."""
  source = create().source('train', None)
  return [{**source[i], 'index': np.int32(i)} for i in range(count)]


def train(task, source, count, **settings):
  """Returns the first batches of the stream."""
  settings = {'batch_size': BATCH, 'seed': 3} | settings
  batches = pipeline.train_batches(task, source, **settings)
  return list(itertools.islice(batches, count))
