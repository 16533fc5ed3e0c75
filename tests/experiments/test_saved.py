"""A run's directory: what it leaves there, and how it is opened again."""

import datetime
import shutil

import jax
import numpy as np
import pytest

from experiments import saved, telemetry, train
from experiments.checkpoint import CheckpointMismatchError
from tests.experiments.smoke import by_step, create, edited_config


@pytest.mark.slow
def test_a_run_is_opened_again_with_another_checkpoint(
  trained, tmp_path, monkeypatch, change
):
  run = change(trained[0], **{'train.eval_every': 5})
  # The loss falls with training, so the best is not the latest.
  monkeypatch.setattr(type(run.task), 'best_metric', 'loss')
  train.train(run, str(tmp_path))
  scores = by_step(tmp_path, 'test')
  best = max(scores, key=lambda step: scores[step])
  assert best < 20
  for checkpoint_name, step in (('latest', 20), ('best', best)):
    again = saved.open_run(str(tmp_path), checkpoint=checkpoint_name)
    assert int(saved.restore(again, str(tmp_path)).step) == step
  assert saved.open_run(str(tmp_path), 'there').config.data.dir == 'there'


def test_a_run_with_the_kernel_of_another_machine_is_opened(copy):
  with edited_config(copy) as config:
    config['model']['self_attention'] = 'cudnn'
  run = saved.open_run(str(copy))
  assert int(saved.restore(run, str(copy)).step) == 20


def test_names_of_classes_are_the_datas_where_none_are_stored(trained):
  run, workdir, _ = trained
  for folder in (workdir, workdir / 'nowhere'):
    assert saved.class_names(run, str(folder)) == list(run.class_names)


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


def test_a_run_leaves_its_records(workdir):
  assert saved.read_config(str(workdir)).train.steps == 20
  assert [*by_step(workdir)] == [*range(1, 21)]
  assert [*by_step(workdir, 'test')] == [10, 20]
  assert list(workdir.glob('events.out.tfevents.*'))
  read = lambda name: telemetry.read_records(str(workdir), name)
  (launch,), (ending,) = read(telemetry.LAUNCHES), read(telemetry.ENDINGS)
  assert {'commit', 'packages', 'devices', 'command'} <= launch.keys()
  assert launch['packages']['jax'] == jax.__version__
  assert ending['reason'] == telemetry.FINISHED
  times = [r['time'] for r in telemetry.read_metrics(str(workdir))]
  assert times == sorted(times)
  started, ended = (
    datetime.datetime.fromisoformat(x['time']).timestamp()
    for x in (launch, ending)
  )
  assert started <= times[0]
  assert times[-1] <= ended + 1e-3


@pytest.mark.parametrize(
  ('key', 'before', 'now'),
  [
    ('model.cross_attend_placement', 'interleaved', 'at_start'),
    ('task.max_resolution', 8, 4),
  ],
)
def test_another_function_is_refused(trained, key, before, now):
  workdir = trained[1]
  with pytest.raises(CheckpointMismatchError) as raised:
    saved.check_config(create(**{key: now}), str(workdir))
  assert str(raised.value) == (
    f'{workdir} was trained as another model than this config describes:\n'
    f'  {key}: {before!r} in the run, {now!r} in this config\n'
    "Use the run's own values, those of its config.json, or another --workdir."
  )


@pytest.mark.parametrize('start', [train.train, saved.evaluate_checkpoint])
def test_who_refuses_it_leaves_all_as_it_is(copy, start):
  files = {x: x.stat().st_mtime_ns for x in copy.rglob('*') if x.is_file()}
  with pytest.raises(
    CheckpointMismatchError, match=r'task\.permuted: False in'
  ):
    start(create(**{'task.permuted': True}), str(copy))
  assert files == {
    x: x.stat().st_mtime_ns for x in copy.rglob('*') if x.is_file()
  }


def test_what_changes_no_function_may_change_and_is_logged(trained, caplog):
  changes = {
    'model.attention': 'plain',
    'model.compute_dtype': 'bfloat16',
    'model.remat': 'nothing_saveable',
    'model.unroll': True,
    'model.dropout_rate': 0.5,
    'task.max_shift': 0.0,
    'optimizer.learning_rate': 0.25,
    'train.batch_size': 32,
    'eval.batch_size': 64,
    'seed': 7,
    'train.steps': 21,
  }
  saved.check_config(create(**changes), str(trained[1]))
  for key, value in changes.items():
    assert f'Changed: {key} is ' in caplog.text
    assert f' in the run, {value!r} in this config.' in caplog.text


def test_the_next_launch_is_compared_with_the_last_one(trained, copy, change):
  shutil.rmtree(copy / 'checkpoints' / '20')
  train.train(change(trained[0], **{'train.log_every': 4}), str(copy))
  assert saved.read_config(str(copy)).train.log_every == 4
  assert [*by_step(copy)] == [*range(1, 17), 20]


def test_a_key_that_an_older_version_did_not_have_has_its_default(copy):
  with edited_config(copy) as config:
    del config['model']['head']
  saved.check_config(create(), str(copy))
  with pytest.raises(CheckpointMismatchError, match=r"head: 'mean' in the run"):
    saved.check_config(create(**{'model.head': 'query'}), str(copy))
  with edited_config(copy) as config:
    del config['task']['permuted']
  with pytest.raises(CheckpointMismatchError, match=r"permuted: 'absent' in"):
    saved.check_config(create(), str(copy))


def test_another_task_is_named_without_its_keys(copy):
  with edited_config(copy) as config:
    config['task'] |= {'name': 'imagenet', 'cutmix': True}
  with pytest.raises(CheckpointMismatchError) as raised:
    saved.check_config(create(), str(copy))
  _, line, _ = str(raised.value).splitlines()
  assert line == "  task.name: 'imagenet' in the run, 'digits' in this config"


def test_without_its_config_a_run_is_taken_by_its_shapes(trained, copy, caplog):
  (copy / telemetry.CONFIG).unlink()
  saved.evaluate_checkpoint(trained[0], str(copy))
  assert 'has no config.json: only the shapes' in caplog.text
