"""Training in this process: devices, steps that are not finite, intervals."""

import contextlib
import json
import multiprocessing
import signal
from unittest import mock

from absl import flags
import jax
import numpy as np
import optax
import pytest

from experiments import (
  evaluate,
  nonfinite,
  pipeline,
  saved,
  sharding,
  telemetry,
  train,
  train_step,
)
from experiments.errors import DamagedDataError, DataNotFoundError
from experiments.metrics import MetricsWriter
from tests.experiments.smoke import (
  by_step,
  create,
  final_params,
  fresh,
  losses,
  starts,
  told_to_stop,
)


@pytest.mark.slow
def test_devices_and_accumulation_change_no_result(trained, parallel, tmp_path):
  """A run trains on four devices, goes on on one, and four evaluate it."""
  run, workdir, metrics = trained
  with told_to_stop(5, 'at step 5 of 20'):
    train.train(parallel, str(tmp_path))
  again = train.train(run, str(tmp_path))['test']
  # 20 steps, each of which differs by the order of float32 sums.
  for split, count in (('train', 20), ('test', 2)):
    assert len(losses(tmp_path, split)) == count
    np.testing.assert_allclose(
      losses(tmp_path, split), losses(workdir, split), rtol=1e-5
    )
  assert (again['top1'], again['count']) == (metrics['top1'], 360)
  assert starts(tmp_path) == [0, 5]
  np.testing.assert_allclose(
    saved.evaluate_checkpoint(parallel, str(tmp_path))['test']['loss'],
    metrics['loss'],
    rtol=1e-5,
  )


@pytest.mark.slow
def test_a_notebooks_cell_is_stopped_and_run_again(
  trained, tmp_path, monkeypatch, change
):
  """The stop button is a SIGINT; nobody has parsed flags."""
  run = trained[0]
  flags.FLAGS.unparse_flags()

  def stop_at_7(self, step, metrics):
    if step == 7:
      signal.raise_signal(signal.SIGINT)

  change(run, **{'data.num_workers': 1})
  monkeypatch.setattr(MetricsWriter, 'progress', stop_at_7)
  with pytest.raises(KeyboardInterrupt):
    train.train(run, str(tmp_path))
  monkeypatch.undo()
  assert multiprocessing.active_children() == []
  ending = json.loads((tmp_path / 'endings.jsonl').read_text())
  assert ending['reason'] == 'KeyboardInterrupt'
  train.train(run, str(tmp_path))
  assert starts(tmp_path) == [0, 5]
  assert losses(tmp_path) == losses(trained[1])


def ones(run):
  """Returns a batch of ones for training, on the run's devices."""
  spec = run.task.batch_spec(run.config.train.batch_size)
  batch = {k: np.ones(x.shape, x.dtype) for k, x in spec.items()}
  return sharding.put_batch(batch, run.mesh)


@pytest.mark.slow
def test_weights_are_split_over_the_model_axis(parallel):
  state = fresh(parallel)
  latents = state.params['perceiver']['latents']
  assert latents.addressable_shards[0].data.shape == (8, 8)  # Half of [8, 16].
  state, _ = train_step.make_train_step(parallel)(state, ones(parallel))
  latents = state.params['perceiver']['latents']
  assert latents.addressable_shards[0].data.shape == (8, 8)


def test_masked_examples_do_not_train(trained):
  run, _, _ = trained
  step = train_step.make_train_step(run)
  rng = np.random.default_rng(0)
  images = rng.normal(size=(64, 8, 8, 1)).astype(np.float32)
  batch = {
    'index': np.arange(64, dtype=np.int32),
    'label': rng.integers(10, size=64).astype(np.int32),
    'mask': np.arange(64) < 40,
  }
  others = images.copy()
  others[40:] = 7
  results = [
    step(fresh(run), sharding.put_batch({**batch, 'image': x}, run.mesh))
    for x in (images, others)
  ]
  jax.tree.map(np.testing.assert_array_equal, *results)


def test_evaluation_is_a_mean_over_examples(trained):
  """Compares with one batch that holds the whole test set.

  A batch that is partly padding weighs no more than its examples.
  """
  run, _, metrics = trained
  params = final_params(run, trained[1])
  source = run.source('test')
  whole = [run.task.eval_example(r) for r in source]
  whole = {k: np.stack([e[k] for e in whole]) for k in whole[0]}

  @jax.jit
  def predict(params, batch):
    logits, _ = run.forward.apply(params, {}, None, batch, False)
    return logits, optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['label']
    )

  logits, expected = jax.device_get(predict(params, whole))
  correct = np.argmax(logits, axis=-1) == whole['label']
  assert metrics['top1'] == correct.sum() / 360
  np.testing.assert_allclose(metrics['loss'], np.mean(expected), rtol=1e-5)
  assert set(metrics) == {'top1', 'loss', 'count'}


def test_a_finished_run_is_left_alone(trained, copy):
  run, workdir, metrics = trained
  assert train.train(run, str(copy)) == {'test': metrics}
  assert losses(copy) == losses(workdir)


SPOILT = (4, 10, 11, 12, 14)


@pytest.fixture
def spoilt(trained, monkeypatch):
  """The smoke run with data that makes the losses of some steps NaN."""
  batches = pipeline.train_batches

  def spoil(*arguments, batch_size, position, **settings):
    first = position // batch_size + 1
    settings |= {'batch_size': batch_size, 'position': position}
    with contextlib.closing(batches(*arguments, **settings)) as sound:
      for step, batch in enumerate(sound, first):
        yield batch | (
          {'image': batch['image'] * np.nan} if step in SPOILT else {}
        )

  monkeypatch.setattr(pipeline, 'train_batches', spoil)
  return trained[0]


def test_a_step_that_is_not_finite_is_skipped_and_counted(
  spoilt, tmp_path, caplog
):
  train.train(spoilt, str(tmp_path))
  skipped = telemetry.read_skipped_steps(str(tmp_path))
  assert tuple(skipped) == SPOILT
  assert 'Step 4 has loss nan' in skipped[4]
  assert 'Step 4 has loss nan' in caplog.text
  assert len(losses(tmp_path)) == 15
  assert np.isfinite(losses(tmp_path)).all()
  # A skipped step is no update: later ones have the rates of earlier steps.
  recorded = by_step(tmp_path, metric='learning_rate')
  updates = [step for step in range(1, 21) if step not in SPOILT]
  assert list(recorded) == updates
  for update, rate in enumerate(recorded.values()):
    np.testing.assert_allclose(rate, float(spoilt.schedule(update)), rtol=1e-6)


def test_a_step_that_is_not_finite_moves_nothing(trained):
  run = trained[0]
  batch = ones(run)
  batch['image'] *= np.nan
  state = fresh(run)
  before = jax.device_get(state)
  new, metrics = train_step.make_train_step(run)(state, batch)
  assert np.isnan(metrics['loss'])
  assert new.step == 1
  jax.tree.map(np.testing.assert_array_equal, new[1:], before[1:])


@pytest.mark.parametrize(('most', 'last'), [(0, 4), (2, 12)])
def test_too_many_of_them_in_a_row_end_the_run(
  spoilt, tmp_path, change, most, last
):
  change(spoilt, **{'train.max_skipped_steps': most})
  good = 'none' if last < 5 else r'that of step \d+'
  with pytest.raises(
    nonfinite.NonFiniteError,
    match=rf'Step {last} has .*max_skipped_steps={most}\. The .* is {good};',
  ):
    train.train(spoilt, str(tmp_path))
  steps = [int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*')]
  assert max(steps, default=0) <= last


def test_parameters_that_are_not_finite_are_never_saved(
  trained, tmp_path, monkeypatch, change
):
  run = trained[0]
  step = train_step.make_train_step(run)

  def overflow(state, batch):
    """Makes parameters infinite; the loss and the gradient are finite."""
    state, metrics = step(state, batch)
    params = jax.tree.map(lambda x: np.asarray(x) / 0, state.params)
    return state._replace(params=params), metrics

  monkeypatch.setattr(train, 'make_train_step', lambda run: overflow)
  change(run, **{'train.checkpoint_every': 1})
  with (
    np.errstate(all='ignore'),
    pytest.raises(
      nonfinite.NonFiniteError, match='After step 1 the parameters'
    ),
  ):
    train.train(run, str(tmp_path))
  assert not list((tmp_path / 'checkpoints').glob('[0-9]*'))


@pytest.mark.slow
def test_when_a_run_logs_evaluates_and_saves(
  trained, tmp_path, monkeypatch, change
):
  run = change(
    trained[0],
    **{
      'train.log_every': 3,
      'train.eval_every': 6,
      'train.checkpoint_every': 4,
      'train.keep_checkpoints': 3,
    },
  )
  put = mock.Mock(wraps=sharding.put_batch)
  monkeypatch.setattr(sharding, 'put_batch', put)
  train.train(run, str(tmp_path))
  assert [*by_step(tmp_path)] == [3, 6, 9, 12, 15, 18, 20]
  scores = by_step(tmp_path, 'test', 'top1')
  assert [*scores] == [6, 12, 18, 20]
  kept = {int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*')}
  best = max(scores, key=lambda step: (scores[step], step))
  assert kept == {16, 18, 20, best}
  # Six batches of training, then the test set, three batches.
  sizes = [len(call.args[0]['mask']) for call in put.call_args_list[:9]]
  assert sizes == [64] * 6 + [128] * 3


@pytest.mark.parametrize(
  ('split', 'start'),
  [
    ('train', train.train),
    ('test', train.train),
    ('test', saved.evaluate_checkpoint),
  ],
)
def test_an_empty_split_is_one_error_before_anything_is_written(
  tmp_path, split, start
):
  run = create()
  source = run.task.source
  run.task.source = lambda name, data_dir: (
    [] if name == split else source(name, data_dir)
  )
  with pytest.raises(DataNotFoundError, match=f"split '{split}' is empty"):
    start(run, str(tmp_path))
  assert not list(tmp_path.iterdir())


def test_an_evaluation_without_examples_is_one_error():
  run = create()
  with pytest.raises(ValueError, match='no examples to evaluate'):
    evaluate.evaluate(run, lambda *_: None, None, None, [])
  nothing = evaluate.BatchResult(
    {'top1': 0.0, 'count': 0}, np.zeros(1, bool), {}, {'record': np.zeros(1)}
  )
  with pytest.raises(DamagedDataError, match='None of the examples'):
    evaluate.evaluate(run, lambda *_: nothing, None, None, [{}])
