"""Each form of ImageNet gives the examples of today's, in the same order."""

import functools
import posixpath

import jax
import numpy as np
import pytest

from experiments import benchmarks, experiment, sharding, train
from experiments.benchmarks.imagenet import known, source
from experiments.benchmarks.images import decoding
from experiments.errors import DamagedRecordError
from tests.benchmarks.imagenet import forms
from tests.benchmarks.imagenet.test_task import COUNTS, tiny
from tests.experiments import streams


@pytest.fixture(scope='module')
def written(mini_imagenet_dir, tmp_path_factory):
  """Returns the data.dir of a form, which is written once."""
  root = tmp_path_factory.mktemp('forms')
  return functools.cache(
    lambda form: forms.write(form, mini_imagenet_dir, root / form)
  )


def open_source(data_dir, split):
  return source.open_source(
    data_dir, split, num_examples=COUNTS[split], num_classes=12
  )


def pixels(record):
  try:
    return decoding.decode(record['jpeg']).tobytes()
  except DamagedRecordError:
    return record['jpeg']


@pytest.mark.parametrize('split', COUNTS)
@pytest.mark.parametrize('form', forms.FORMS)
def test_the_records_are_the_same_in_the_same_order(written, form, split):
  found = open_source(written(form), split)
  expected = open_source(written('today'), split)
  assert [x['label'] for x in found] == [x['label'] for x in expected]
  for record, other in zip(found, expected, strict=True):
    if form == 'png':
      assert pixels(record) == pixels(other)
    else:
      assert record['jpeg'] == other['jpeg']


@pytest.mark.parametrize('form', forms.FORMS)
def test_the_training_batches_are_the_same(written, form):
  def batches(form):
    task = benchmarks.create(**tiny(written(form)).task)
    records = task.source('train', written(form))
    reasons = []
    found = streams.train(
      task,
      records,
      6,
      batch_size=8,
      max_damaged=0.05,
      on_damaged=lambda index, reason: reasons.append(reason) or 1,
    )
    return found, reasons

  found, (reason,) = batches(form)
  expected, _ = batches('today')
  for batch, other in zip(found, expected, strict=True):
    assert batch.keys() == other.keys()
    for key, value in other.items():
      np.testing.assert_array_equal(batch[key], value)
  # It is named by its path below train/.
  (damaged,) = forms.pathlib.Path(written(form), 'train').rglob(
    posixpath.basename(reason.partition(': ')[0])
  )
  assert reason.startswith(f'{damaged.relative_to(f"{written(form)}/train")}: ')


@pytest.mark.slow
def test_every_form_trains_to_the_same_metrics(written, tmp_path):
  mesh = sharding.make_mesh(1, jax.devices()[:1])
  settings = {'train.epochs': 2.0, 'train.batch_size': 8}

  def train_on(form):
    config = tiny(written(form), **settings)
    run = experiment.create(config, mesh)
    return train.train(run, str(tmp_path / form))['validation']

  expected = train_on('today')
  assert expected['count'] == COUNTS['validation']
  for form in forms.FORMS:
    assert train_on(form) == expected, form


@pytest.mark.parametrize('form', ['today', *forms.FORMS])
def test_every_form_is_counted(written, form):
  assert source.count(written(form)) == {
    'task.num_classes': 12,
    'task.num_train': 24,
    'task.num_eval': 12,
  }
  names = known.known_names()
  task = benchmarks.create(**tiny(written(form)).task)
  assert task.class_names(written(form)) == [names[x] for x in forms.WNIDS]
