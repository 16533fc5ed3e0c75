"""Training in this process: devices, accumulation, checkpoints, telemetry."""

import json
import multiprocessing
import signal

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import (
  checkpoint,
  evaluate,
  saved,
  seal,
  sharding,
  telemetry,
  train,
  train_step,
)
from experiments.errors import DamagedDataError, DataNotFoundError
from tests.experiments.smoke import create, final_params, losses


@pytest.mark.parametrize(
  ('devices', 'overrides'),
  [
    (8, {}),
    (1, {'train.accumulate': 4}),
    (8, {'train.accumulate': 2}),
    (8, {'train.model_parallel': 2}),
  ],
)
def test_devices_and_accumulation_change_no_result(
  trained, tmp_path, devices, overrides
):
  _, workdir, metrics = trained
  run = create(devices, **overrides)
  again = train.train(run, str(tmp_path))['test']
  # 20 steps, each of which differs by the order of float32 sums.
  np.testing.assert_allclose(losses(tmp_path), losses(workdir), rtol=1e-5)
  assert len(losses(tmp_path)) == 20
  assert (again['top1'], again['count']) == (metrics['top1'], 360)


def test_a_notebooks_cell_is_stopped_and_run_again(
  trained, tmp_path, monkeypatch
):
  """The stop button is a SIGINT; nobody has parsed flags."""
  run = create(**{'data.num_workers': 1})
  flags.FLAGS.unparse_flags()

  def stop_at_12(self, step, metrics):
    if step == 12:
      signal.raise_signal(signal.SIGINT)

  with monkeypatch.context() as patch:
    patch.setattr(telemetry.Telemetry, 'progress', stop_at_12)
    with pytest.raises(KeyboardInterrupt):
      train.train(run, str(tmp_path))
  assert multiprocessing.active_children() == []
  ending = json.loads((tmp_path / 'endings.jsonl').read_text())
  assert ending['reason'] == 'KeyboardInterrupt'
  train.train(run, str(tmp_path))
  launches = (tmp_path / 'launches.jsonl').read_text().splitlines()
  assert json.loads(launches[1])['start_step'] == 10
  assert losses(tmp_path) == losses(trained[1])


def test_weights_are_split_over_the_model_axis():
  run = create(8, **{'train.model_parallel': 2})
  init = jax.jit(
    run.init_state,
    out_shardings=sharding.state_shardings(run.mesh, run.state_shapes),
  )
  state = init(jax.random.key(0))
  latents = state.params['perceiver']['latents']
  assert latents.addressable_shards[0].data.shape == (8, 8)  # Of [8, 16].
  batch = run.task.batch_spec(64)
  batch = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), batch)
  state, _ = train_step.make_train_step(run)(state, batch)
  latents = state.params['perceiver']['latents']
  assert latents.addressable_shards[0].data.shape == (8, 8)


def test_masked_examples_do_not_train(trained):
  run, _, _ = trained
  step = train_step.make_train_step(run)
  rng = np.random.default_rng(0)
  batch = {
    'index': np.arange(64, dtype=np.int32),
    'image': rng.normal(size=(64, 8, 8, 1)).astype(np.float32),
    'label': rng.integers(10, size=64).astype(np.int32),
    'mask': np.arange(64) < 40,
  }
  other = {
    **batch,
    'image': np.where(
      batch['mask'][:, None, None, None], batch['image'], 7
    ).astype(np.float32),
  }
  results = [step(run.init_state(jax.random.key(0)), x) for x in (batch, other)]
  jax.tree.map(np.testing.assert_array_equal, *results)


def test_evaluation_is_a_mean_over_examples(trained):
  """Against one batch that holds the whole test set."""
  run, _, metrics = trained
  params = final_params(run, trained[1])
  source = run.source('test')
  whole = [run.task.eval_example(r) for r in source]
  whole = {k: np.stack([e[k] for e in whole]) for k in whole[0]}
  logits, _ = jax.jit(lambda p, b: run.forward.apply(p, {}, None, b, False))(
    params, whole
  )
  correct = np.argmax(logits, axis=-1) == whole['label']
  assert metrics['top1'] == correct.sum() / 360
  expected = optax.softmax_cross_entropy_with_integer_labels(
    logits, whole['label']
  )
  np.testing.assert_allclose(metrics['loss'], np.mean(expected), rtol=1e-5)
  assert set(metrics) == {'top1', 'loss', 'count'}


def test_a_run_leaves_its_records(trained):
  _, workdir, _ = trained
  config = json.loads((workdir / 'config.json').read_text())
  assert config['train']['steps'] == 20
  launch = json.loads((workdir / 'launches.jsonl').read_text())
  assert {'commit', 'packages', 'devices', 'command'} <= launch.keys()
  assert launch['packages']['jax'] == jax.__version__
  assert list(workdir.glob('events.out.tfevents.*'))
  records = telemetry.read_metrics(workdir)
  assert [r['step'] for r in records if r['split'] == 'train'] == [
    *range(1, 21)
  ]
  assert [r['step'] for r in records if r['split'] == 'test'] == [10, 20]


def test_latest_and_best_checkpoints_are_kept(tmp_path):
  run = create(**{'train.keep_checkpoints': 1})
  checkpoints = checkpoint.Checkpoints(
    str(tmp_path), best_metric='top1', keep=1, read_only=False
  )
  state = jax.jit(run.init_state)(jax.random.key(0))
  for step, top1 in ((1, 0.2), (2, 0.9), (3, 0.5), (4, None), (5, 0.1)):
    metrics = None if top1 is None else {'top1': top1}
    checkpoints.save(step, state, step * 64, metrics)
  checkpoints.close()
  reader = checkpoint.Checkpoints(
    str(tmp_path), best_metric='top1', keep=1, read_only=True
  )
  assert (reader.step('latest'), reader.step('best')) == (5, 2)
  abstract = saved.abstract_state(run)
  assert reader.restore(2, abstract)[1] == 128
  reader.close()


def flip_a_bit(directory):
  """In the middle of the largest array file."""
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


def truncate_metadata(directory):
  (directory / '_CHECKPOINT_METADATA').write_bytes(b'{')


def remove_a_file(directory):
  (directory / '_CHECKPOINT_METADATA').unlink()


def make_unreadable(directory):
  """A file that reading fails of, also for root."""
  remove_a_file(directory)
  (directory / '_CHECKPOINT_METADATA').mkdir()


@pytest.mark.parametrize(
  ('spoil', 'what'),
  [
    (flip_a_bit, ' changed since it was written'),
    (remove_the_manifest, 'it was never finished'),
    (truncate_metadata, '_CHECKPOINT_METADATA changed since'),
    (truncate_score, 'metrics/metrics changed since'),
    (remove_a_file, '_CHECKPOINT_METADATA is missing'),
    (make_unreadable, '_CHECKPOINT_METADATA is unreadable (Is a directory)'),
  ],
)
def test_a_damaged_checkpoint_falls_back(trained, copy, caplog, spoil, what):
  run, workdir, _ = trained
  spoil(copy / 'checkpoints' / '20')
  metrics = saved.evaluate_checkpoint(run, str(copy))['test']
  assert 'Checkpoint 20 is damaged (' in caplog.text
  assert what in caplog.text
  assert 'Using the checkpoint of step 15' in caplog.text
  assert (copy / 'checkpoints' / '20').exists()  # Evaluation moves nothing.
  assert metrics['count'] == 360
  # Training moves it aside and does its steps again, to the same end.
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


def test_eval_can_take_the_best_checkpoint(trained, caplog):
  _, workdir, _ = trained
  best = max(
    (r['top1'], r['step'])
    for r in telemetry.read_metrics(workdir)
    if r['split'] == 'test'
  )
  run = create(**{'eval.checkpoint': 'best'})
  metrics = saved.evaluate_checkpoint(run, str(workdir))['test']
  assert f'checkpoint of step {best[1]}' in caplog.text
  assert metrics['top1'] == best[0]


def test_what_is_deleted_takes_no_room(trained):
  directory = trained[1] / 'checkpoints'
  kept = {p.name for p in directory.iterdir()}
  assert kept == {'15', '20', *(p for p in kept if p == '10')}  # 10: the best.


def test_a_checkpoint_of_another_model_is_refused(copy):
  run = create(**{'model.num_latents': 9})
  (copy / telemetry.CONFIG).unlink()  # Which would tell it, see test_saved.py.
  before = sorted(copy.rglob('*'))
  message = r'perceiver/latents: float32\[8, 16\] in the checkpoint, float32\[9'
  for start in (train.train, saved.evaluate_checkpoint):
    with pytest.raises(checkpoint.CheckpointMismatchError, match=message):
      start(run, str(copy))
  assert sorted(copy.rglob('*')) == before


def spoil_losses(run, steps):
  """Lets the losses of some steps be NaN."""
  loss, augment = run.task.loss, run.task.augment_batch

  def count(batch, key):
    # The keys of the steps tell which one it is.
    is_bad = jnp.stack(
      [
        jnp.all(jax.random.key_data(key) == jax.random.key_data(bad))
        for bad in keys
      ]
    ).any()
    mask = batch['mask']
    return {**augment(batch, key), 'is_bad': jnp.full(mask.shape, is_bad)}

  keys = [
    jax.random.split(
      jax.random.fold_in(jax.random.key(run.config.seed), step - 1)
    )[1]
    for step in steps
  ]
  run.task.augment_batch = count
  run.task.loss = lambda logits, batch: (
    loss(logits, batch) + jnp.where(batch.get('is_bad', False), jnp.nan, 0.0)
  )


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, caplog):
  run = create()
  spoil_losses(run, [4, 10, 11, 12, 14])
  train.train(run, str(tmp_path))
  skipped = telemetry.read_skipped_steps(str(tmp_path))
  assert list(skipped) == [4, 10, 11, 12, 14]
  assert 'Step 4 has loss nan' in skipped[4]
  assert 'Step 4 has loss nan' in caplog.text
  assert len(losses(tmp_path)) == 15
  assert np.isfinite(losses(tmp_path)).all()
  # Nothing but the count of steps has changed.
  step = train_step.make_train_step(run)
  batch = jax.tree.map(
    lambda x: jnp.ones(x.shape, x.dtype), run.task.batch_spec(64)
  )
  state = run.init_state(jax.random.key(0))._replace(step=jnp.int32(3))
  new, metrics = step(jax.tree.map(jnp.copy, state), batch)
  assert np.isnan(metrics['loss'])
  assert new.step == 4
  jax.tree.map(np.testing.assert_array_equal, new[1:], state[1:])


def test_the_recorded_learning_rate_is_the_optimizers(tmp_path):
  """A skipped step is no update: later ones have the rates of earlier steps."""
  run = create(**{'train.steps': 10})
  spoil_losses(run, [3, 4, 7])
  train.train(run, str(tmp_path))  # Evaluated and saved on the way.
  recorded = {
    x['step']: x['learning_rate']
    for x in telemetry.read_metrics(tmp_path)
    if x['split'] == 'train'
  }
  updates = {1: 0, 2: 1, 5: 2, 6: 3, 8: 4, 9: 5, 10: 6}
  assert recorded.keys() == updates.keys()
  for step, update in updates.items():
    np.testing.assert_allclose(recorded[step], float(run.schedule(update)))
  # It is the rate that the parameters move by: AdamW's first update of them.
  run = create(**{'optimizer.name': 'adamw', 'optimizer.weight_decay': 0.0})
  step = train_step.make_train_step(run)
  batch = jax.tree.map(
    lambda x: jnp.ones(x.shape, x.dtype), run.task.batch_spec(64)
  )
  state = run.init_state(jax.random.key(0))._replace(step=jnp.int32(9))
  new, metrics = step(jax.tree.map(jnp.copy, state), batch)
  moved = max(
    jnp.abs(x - y).max()
    for x, y in zip(*map(jax.tree.leaves, (new[1], state[1])), strict=True)
  )
  np.testing.assert_allclose(metrics['learning_rate'], moved, rtol=1e-3)


@pytest.mark.parametrize(('most', 'last'), [(0, 4), (2, 12)])
def test_too_many_of_them_in_a_row_end_the_run(tmp_path, most, last):
  run = create(**{'train.max_skipped_steps': most})
  spoil_losses(run, [4, 10, 11, 12, 14])
  good = 'none' if last < 5 else r'that of step \d+'
  with pytest.raises(
    train.NonFiniteError,
    match=rf'Step {last} has .*max_skipped_steps={most}\. The .* is {good};',
  ):
    train.train(run, str(tmp_path))
  steps = [int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*')]
  assert max(steps, default=0) <= last


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
  # The first update overflows, after a loss and a gradient that are finite.
  run = create(
    **{
      'optimizer.learning_rate': 1e38,
      'optimizer.name': 'adamw',
      'optimizer.weight_decay': 1e3,
      'train.checkpoint_every': 1,
    }
  )
  with pytest.raises(train.NonFiniteError, match='After step 1 the parameters'):
    train.train(run, str(tmp_path))
  assert not list((tmp_path / 'checkpoints').glob('[0-9]*'))


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
  ('scores', 'best'),
  [
    ([0.2, NAN, 0.1], 1),
    ([NAN, 0.2, NAN, NAN], 2),
    ([NAN, NAN], 2),  # None is: the latest.
    ([INF, 0.3, 0.3, None, 0.1], 3),
    ([-INF, None, 0.0], 3),
  ],
)
def test_no_order_of_scores_loses_the_best(tmp_path, scores, best):
  checkpoints = checkpoint.Checkpoints(
    str(tmp_path), best_metric='top1', keep=1, read_only=False
  )
  for step, score in enumerate(scores, 1):
    metrics = None if score is None else {'top1': score}
    checkpoints.save(step, {'x': jnp.float32(step)}, 0, metrics)
  checkpoints.close()
  reader = checkpoint.Checkpoints(
    str(tmp_path), best_metric='top1', keep=1, read_only=True
  )
  for which, step in (('latest', len(scores)), ('best', best)):
    assert reader.step(which) == step
    shape = {'x': jax.ShapeDtypeStruct((), jnp.float32)}
    assert reader.restore(step, shape)[0]['x'] == step
  reader.close()


def test_a_broken_last_line_is_forgotten(copy, caplog):
  path = copy / telemetry.METRICS
  path.write_text(path.read_text() + '{"step": 21, "spl')
  assert len(losses(copy)) == 20
  assert 'broken line' in caplog.text


def test_sums_are_counted_not_averaged():
  """A batch that is nearly all padding weighs no more than its examples."""
  totals = [{'top1': 3.0, 'count': 4}, {'top1': 0.0, 'count': 1}]
  run = create()
  steps = iter(
    evaluate.BatchResult(x, np.ones(1, bool), {}, {'record': np.array([i])})
    for i, x in enumerate(totals)
  )
  means = evaluate.evaluate(run, lambda *_: next(steps), None, None, [{}, {}])
  assert means.metrics == {'top1': 0.6, 'count': 5}


def test_when_a_run_logs_evaluates_and_saves(tmp_path):
  run = create(
    **{
      'train.steps': 12,
      'train.log_every': 3,
      'train.eval_every': 6,
      'train.checkpoint_every': 4,
      'train.keep_checkpoints': 3,
      'eval.batch_size': 16,
    }
  )
  sizes = []
  forward = run.task.metrics
  run.task.metrics = lambda logits, batch: (
    sizes.append(len(logits)),
    forward(logits, batch),
  )[1]
  train.train(run, str(tmp_path))
  records = telemetry.read_metrics(tmp_path)
  steps = lambda split: [r['step'] for r in records if r['split'] == split]
  assert (steps('train'), steps('test')) == ([3, 6, 9, 12], [6, 12])
  saved = {int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*')}
  best = max((r['top1'], r['step']) for r in records if r['split'] == 'test')
  assert saved == {6, 8, 12, best[1]}
  assert set(sizes) == {64, 16}  # Traced for training and for evaluation.


@pytest.mark.parametrize('split', ['train', 'test'])
def test_an_empty_split_is_one_error_before_anything_is_written(
  tmp_path, split
):
  run = create()
  source = run.task.source
  run.task.source = lambda name, data_dir: (
    [] if name == split else source(name, data_dir)
  )
  for start in (train.train, saved.evaluate_checkpoint):
    if split == 'train' and start is saved.evaluate_checkpoint:
      continue  # It reads none of it.
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
