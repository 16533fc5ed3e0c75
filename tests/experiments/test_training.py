"""Training in this process: devices, accumulation, checkpoints, telemetry."""

import contextlib
import json
import multiprocessing
import signal
from unittest import mock

from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import (
  checkpoint,
  evaluate,
  nonfinite,
  pipeline,
  saved,
  seal,
  sharding,
  telemetry,
  train,
  train_step,
)
from experiments.errors import DamagedDataError, DataNotFoundError
from experiments.metrics import MetricsWriter
from tests.experiments.smoke import (
  by_step,
  checkpoints,
  create,
  final_params,
  fresh,
  latest,
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


def flip_a_bit(directory):
  """Flips a bit in the middle of the largest array file."""
  path = max(
    (directory / 'state').rglob('d/*'),
    key=lambda p: p.stat().st_size,
  )
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def remove_the_manifest(directory):
  (directory / seal.MANIFEST).unlink()


def truncate_score(directory):
  (directory / 'metrics' / 'metrics').write_bytes(b'{"top1": 0.\xff')


def remove_a_file(directory):
  (directory / '_CHECKPOINT_METADATA').unlink()


def make_unreadable(directory):
  """Makes a file that cannot be read, not even by root."""
  remove_a_file(directory)
  (directory / '_CHECKPOINT_METADATA').mkdir()


@pytest.mark.parametrize(
  ('spoil', 'what'),
  [
    (flip_a_bit, ' changed since it was written'),
    (remove_the_manifest, 'it was never finished'),
    (truncate_score, 'metrics/metrics changed since'),
    (remove_a_file, '_CHECKPOINT_METADATA is missing'),
    (make_unreadable, '_CHECKPOINT_METADATA is unreadable (Is a directory)'),
  ],
)
def test_a_damaged_checkpoint_is_passed_over(copy, caplog, spoil, what):
  spoil(copy / 'checkpoints' / '20')
  assert latest(copy) == 15
  assert 'Checkpoint 20 is damaged (' in caplog.text
  assert what in caplog.text
  assert (copy / 'checkpoints' / '20').exists()  # Readers move nothing.
  with checkpoints(copy, read_only=False) as writer:
    assert writer.step('latest') == 15
  assert (copy / 'damaged' / '20').exists()


def test_where_no_checkpoint_is_intact_nothing_is_evaluated(trained, copy):
  for directory in (copy / 'checkpoints').iterdir():
    remove_the_manifest(directory)
  with pytest.raises(FileNotFoundError, match='No intact checkpoint in --wor'):
    saved.evaluate_checkpoint(trained[0], str(copy))


@pytest.mark.slow
def test_a_run_falls_back_and_comes_to_the_same_end(trained, copy, caplog):
  run, workdir, _ = trained
  truncate_score(copy / 'checkpoints' / '20')
  metrics = saved.evaluate_checkpoint(run, str(copy))['test']
  assert 'Using the checkpoint of step 15' in caplog.text
  assert (copy / 'checkpoints' / '20').exists()
  assert metrics['count'] == 360
  # Training moves it aside and does its steps again.
  train.train(run, str(copy))
  assert 'Going on from the checkpoint of step 15' in caplog.text
  assert (copy / 'damaged' / '20').exists()
  assert losses(copy) == losses(workdir)
  jax.tree.map(
    np.testing.assert_array_equal,
    final_params(run, copy),
    final_params(run, workdir),
  )


def test_a_finished_run_is_left_alone(trained, copy):
  run, workdir, metrics = trained
  assert train.train(run, str(copy)) == {'test': metrics}
  assert losses(copy) == losses(workdir)


def test_a_checkpoint_of_another_model_is_refused(copy):
  run = create(**{'model.num_latents': 9})
  (copy / telemetry.CONFIG).unlink()  # Compared first, see test_saved.py.
  before = sorted(copy.rglob('*'))
  message = r'perceiver/latents: float32\[8, 16\] in the checkpoint, float32\[9'
  for start in (train.train, saved.evaluate_checkpoint):
    with pytest.raises(checkpoint.CheckpointMismatchError, match=message):
      start(run, str(copy))
  assert sorted(copy.rglob('*')) == before


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


def test_parameters_move_by_the_recorded_rate(trained):
  """LAMB moves each array by the learning rate times its norm."""
  run = trained[0]
  state = fresh(run)
  before = jax.device_get(state.params)
  new, metrics = train_step.make_train_step(run)(state, ones(run))
  old = before['perceiver']['latents']
  moved = jax.device_get(new.params['perceiver']['latents']) - old
  share = np.linalg.norm(moved) / np.linalg.norm(old)
  np.testing.assert_allclose(metrics['learning_rate'], share, rtol=1e-3)


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


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
  ('scores', 'best'),
  [
    ([0.2, NAN, 0.1], 1),
    ([NAN, 0.2, NAN, NAN], 2),
    ([NAN, NAN], 2),  # None is finite: the latest.
    ([INF, 0.3, 0.3, None, 0.1], 3),
    ([-INF, None, 0.0], 3),
    ([0.2, 0.9, 0.5, None, 0.1], 2),
  ],
)
def test_the_best_is_the_latest_of_the_highest_finite_scores(
  tmp_path, scores, best
):
  found = check_scores(tmp_path, [[(1, score) for score in scores]], keep=1)
  assert found == best


SCORES = st.sampled_from([None, 0.1, 0.2, 0.3, 0.0, -1.0, NAN, INF, -INF])
# Steps since the checkpoint before, and the score to save.
SAVES = st.lists(st.tuples(st.integers(1, 120), SCORES), min_size=1, max_size=9)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(SAVES, min_size=1, max_size=3), st.integers(1, 3))
def test_the_latest_and_the_best_are_kept_of_any_scores(
  tmp_path_factory, launches, keep
):
  check_scores(tmp_path_factory.mktemp('scores'), launches, keep)


def check_scores(workdir, launches, keep):
  """Saves checkpoints in several launches; returns the step of the best."""
  metrics = lambda score: None if score is None else {'top1': score}
  scores = {}
  for saves in launches:
    step = max(scores, default=0)
    with checkpoints(workdir, read_only=False, keep=keep) as writer:
      if scores.get(step, 0.0) is None and saves[0][1] is not None:
        # The launch before was stopped during this evaluation.
        scores[step] = saves[0][1]
        writer.add_score(step, metrics(scores[step]))
      for gap, score in saves:
        step += gap
        scores[step] = score
        state = {'x': jnp.float32(step)}
        writer.save(step, state, 64 * step, metrics(score))
        writer.poll()
    best = check_kept(workdir, scores, keep)
  return best


def check_kept(workdir, scores, keep):
  """Compares what is there with all scores; returns the step of the best."""
  finite = [
    (score, step)
    for step, score in scores.items()
    if score is not None and np.isfinite(score)
  ]
  _, best = max(finite, default=(None, max(scores)))
  shape = {'x': jax.ShapeDtypeStruct((), jnp.float32)}
  with checkpoints(workdir) as reader:
    for which, step in (('latest', max(scores)), ('best', best)):
      assert reader.step(which) == step
      state, position = reader.restore(step, shape)
      assert (state['x'], position) == (step, 64 * step)
  # What is deleted leaves no folder behind.
  there = {int(x.name) for x in (workdir / 'checkpoints').iterdir()}
  wanted = {*sorted(scores)[-keep:], best}
  assert wanted <= there
  # Without a finite score Orbax keeps one more, whose score is -inf.
  assert len(there - wanted) <= (not finite)
  return best


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
