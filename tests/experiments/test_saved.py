"""What a run leaves, and its directory opened again."""

import datetime

import numpy as np
import pytest

from experiments import saved, telemetry, train
from tests.experiments.smoke import create


def test_a_run_is_opened_again_with_another_checkpoint(tmp_path, monkeypatch):
  run = create(**{'train.eval_every': 5})
  # What falls as it learns: the best is not the latest.
  monkeypatch.setattr(type(run.task), 'best_metric', 'loss')
  train.train(run, str(tmp_path))
  scores = {
    r['step']: r['loss']
    for r in telemetry.read_metrics(str(tmp_path))
    if r['split'] == 'test'
  }
  best = max(scores, key=lambda step: scores[step])
  assert best < 20
  for checkpoint_name, step in (('latest', 20), ('best', best)):
    again = saved.open_run(str(tmp_path), checkpoint=checkpoint_name)
    assert int(saved.restore(again, str(tmp_path)).step) == step
  assert saved.open_run(str(tmp_path), 'there').config.data.dir == 'there'


def test_an_evaluation_leaves_its_predictions(trained):
  run, workdir, metrics = trained
  with np.load(workdir / 'predictions_test.npz') as arrays:
    found = dict(arrays)
  source = run.source('test')
  assert found['step'] == 20
  assert found['record'].tolist() == list(range(360))
  assert found['label'].tolist() == [int(r['label']) for r in source]
  assert found['classes'].shape == found['scores'].shape == (360, 5)
  top1 = np.mean(found['classes'][:, 0] == found['label'])
  assert top1 == pytest.approx(metrics['top1'])
  assert found['loss'].mean() == pytest.approx(metrics['loss'], rel=1e-5)
  assert (np.diff(found['scores']) <= 0).all()
  right = found['classes'][:, 0] == found['label']
  np.testing.assert_allclose(
    found['loss'][right], -np.log(found['scores'][right, 0]), rtol=1e-4
  )


def test_launches_and_endings_are_recorded(trained):
  _, workdir, _ = trained
  read = lambda name: telemetry.read_records(str(workdir), name)
  (launch,), (ending,) = read(telemetry.LAUNCHES), read(telemetry.ENDINGS)
  assert ending['reason'] == telemetry.FINISHED
  times = [r['time'] for r in telemetry.read_metrics(str(workdir))]
  assert times == sorted(times)
  started, ended = (
    datetime.datetime.fromisoformat(x['time']).timestamp()
    for x in (launch, ending)
  )
  assert started <= times[0]
  assert times[-1] <= ended + 1e-3
