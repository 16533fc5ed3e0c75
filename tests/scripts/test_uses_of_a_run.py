"""All uses of a run take the same checkpoint and the run's own model."""

import logging
import os
import shutil

import jax
import numpy as np
from PIL import Image
import pytest

from experiments import evaluate, models, saved, train
import perceiver
from scripts import attention_maps, export, report
from tests.experiments.smoke import create
from tests.scripts.prediction import ask, digit

pytestmark = pytest.mark.slow

# The default placement has the same arrays, but is another function of the
# input. A constant schedule keeps one program for any number of steps.
SETTINGS = {
  'model.cross_attend_placement': 'at_start',
  'optimizer.schedule': 'constant',
}
EXAMPLE = 3  # An index in the test split.


def leave_strays(workdir):
  """Leaves the stray files of desktops, editors and NFS in all folders."""
  for folder, _, _ in os.walk(workdir):
    for name in ('.DS_Store', 'Thumbs.db', '.nfs0004a1', 'notes.txt~', 'x'):
      with open(os.path.join(folder, name), 'wb') as file:
        file.write(b'\0\1')


@pytest.fixture(scope='module')
def strewn(tmp_path_factory):
  """Trains a run with a placement that is not the default; adds strays."""
  run = create(**SETTINGS)
  workdir = tmp_path_factory.mktemp('strewn') / 'run'
  train.train(run, str(workdir))
  leave_strays(workdir)
  return run, workdir


@pytest.fixture
def strewn_copy(strewn, tmp_path):
  return shutil.copytree(strewn[1], tmp_path / 'run')


@pytest.fixture(scope='module')
def expected(strewn):
  """Returns the classes and scores of the example in the last evaluation."""
  _, workdir = strewn
  with np.load(workdir / 'predictions_test.npz') as found:
    return found['classes'][EXAMPLE], found['scores'][EXAMPLE]


def resumed(run, workdir, tmp_path):
  train.train(create(**SETTINGS, **{'train.steps': 21}), str(workdir))
  assert int(saved.restore(run, str(workdir)).step) == 21


def evaluated(run, workdir, tmp_path):
  (workdir / 'predictions_test.npz').unlink()
  saved.evaluate_checkpoint(run, str(workdir))
  with np.load(workdir / 'predictions_test.npz') as found:
    return found['classes'][EXAMPLE], found['scores'][EXAMPLE]


def predicted(run, workdir, tmp_path):
  path = tmp_path / 'digit.png'
  Image.fromarray(digit(run.source('test')[EXAMPLE])).save(path)
  _, (answer,), _ = ask(workdir, path)
  best = answer['predictions']
  return [x['class'] for x in best], [x['score'] for x in best]


def exported(run, workdir, tmp_path):
  export.export(str(workdir), str(tmp_path / 'model'))
  model = perceiver.from_pretrained(str(tmp_path / 'model'))
  image = run.task.eval_example(run.source('test')[EXAMPLE])['image']
  scores = jax.nn.softmax(model(image[None]))
  top, classes = jax.lax.top_k(scores, evaluate.TOP)
  return classes[0], top[0]


def reported(run, workdir, tmp_path):
  (workdir / 'predictions_test.npz').unlink()
  path = report.write([str(workdir)], str(tmp_path / 'report.html'))
  assert path.read_text().count('<img') >= 2  # Maps need the checkpoint.


def mapped(run, workdir, tmp_path):
  paths = attention_maps.write(
    str(workdir), examples=[EXAMPLE], output=str(tmp_path), arrays=True
  )
  with np.load(paths[-1]) as found:
    maps = found['image_logits'][:, 0]  # [cross-attends, latents, 8, 8]
  state = saved.restore(run, str(workdir))
  batch = run.task.eval_example(run.source('test')[EXAMPLE])
  batch = {name: np.asarray(x)[None] for name, x in batch.items()}
  attention = models.transform_attention(run.config, run.task)
  (queries, inputs), _ = jax.eval_shape(
    attention.apply, state.params, state.model_state, None, batch
  )
  assert len(queries) == len(maps) == 2
  assert inputs.num_elements == 64


@pytest.mark.parametrize(
  'use', [resumed, evaluated, predicted, exported, reported, mapped]
)
def test_strays_and_a_placement_confuse_none(
  strewn, strewn_copy, expected, tmp_path, caplog, use
):
  caplog.set_level(logging.INFO)
  answer = use(strewn[0], strewn_copy, tmp_path)
  assert 'checkpoint of step 20' in caplog.text
  assert 'damaged' not in caplog.text
  assert not (strewn_copy / 'damaged').exists()
  if answer is not None:
    assert list(answer[0]) == list(expected[0])
    np.testing.assert_allclose(answer[1], expected[1], rtol=1e-4)
