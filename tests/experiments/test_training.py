"""Training in this process: devices, accumulation, checkpoints, telemetry."""

import json
import shutil

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import digits
from experiments import (
  checkpoint,
  evaluate,
  experiment,
  optimizers,
  preemption,
  sharding,
  telemetry,
  train,
)
from experiments.task import Summary


def smoke(**overrides):
  config = digits.get_config('smoke')
  config.update_from_flattened_dict(overrides)
  return config


def create(devices=1, **overrides):
  config = smoke(**overrides)
  mesh = sharding.make_mesh(
    config.train.model_parallel, jax.devices()[:devices]
  )
  return experiment.create(config, mesh)


def losses(workdir, split='train'):
  records = telemetry.read_metrics(workdir)
  return [r['loss'] for r in records if r['split'] == split]


def final_params(run, workdir):
  checkpoints = checkpoint.Checkpoints(
    str(workdir), best_metric='top1', keep=1, read_only=True
  )
  step = checkpoints.step('latest')
  state, _ = checkpoints.restore(step, train.abstract_state(run))
  checkpoints.close()
  return jax.device_get(state.params)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A smoke run of 20 steps on one device."""
  workdir = tmp_path_factory.mktemp('trained')
  run = create()
  metrics = train.train(run, str(workdir))['test']
  return run, workdir, metrics


@pytest.fixture
def copy(trained, tmp_path):
  """A copy of that run, to do things to."""
  return shutil.copytree(trained[1], tmp_path / 'copy')


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
  state, _ = train.make_train_step(run)(state, batch)
  latents = state.params['perceiver']['latents']
  assert latents.addressable_shards[0].data.shape == (8, 8)


def test_masked_examples_do_not_train(trained):
  run, _, _ = trained
  step = train.make_train_step(run)
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
  abstract = train.abstract_state(run)
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
  (directory / checkpoint.MANIFEST).unlink()


def truncate_metadata(directory):
  (directory / '_CHECKPOINT_METADATA').write_bytes(b'{')


@pytest.mark.parametrize(
  'spoil', [flip_a_bit, remove_the_manifest, truncate_metadata]
)
def test_a_damaged_checkpoint_falls_back(trained, copy, caplog, spoil):
  run, workdir, _ = trained
  spoil(copy / 'checkpoints' / '20')
  metrics = train.evaluate_checkpoint(run, str(copy))['test']
  assert 'Checkpoint 20 is damaged' in caplog.text
  assert 'Evaluating the checkpoint of step 15' in caplog.text
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
  metrics = train.evaluate_checkpoint(run, str(workdir))['test']
  assert f'checkpoint of step {best[1]}' in caplog.text
  assert metrics['top1'] == best[0]


def test_what_is_deleted_takes_no_room(trained):
  directory = trained[1] / 'checkpoints'
  kept = {p.name for p in directory.iterdir()}
  assert kept == {'15', '20', *(p for p in kept if p == '10')}  # 10: the best.


class Stop:
  """Tells a run to stop at one of its questions."""

  def __init__(self, question):
    self.asked, self.question = 0, question

  def __call__(self):
    self.asked += 1
    return self.asked == self.question


# A run of 20 steps asks after each; and, after steps 10 and 20, after each of
# the 3 batches of an evaluation.
@pytest.mark.parametrize(
  ('questions', 'saved'),
  [
    ([11], [10]),  # In the first batch of an evaluation.
    ([13], [10]),  # In its last.
    ([10], [10]),  # Just before it.
    ([25], [20]),  # In the evaluation at the end.
    ([23], [20]),  # Before that one.
    ([12, 2, 14], [10, 10, 20]),  # Twice in one evaluation, once in another.
  ],
)
def test_an_evaluation_that_was_cut_off_is_done_first(
  trained, tmp_path, monkeypatch, caplog, questions, saved
):
  run, workdir, metrics = trained
  for question, step in zip(questions, saved, strict=True):
    monkeypatch.setattr(preemption, 'is_told_to_stop', Stop(question))
    with pytest.raises(preemption.PreemptedError, match='Told to stop'):
      train.train(run, str(tmp_path))
    reader = checkpoint.Checkpoints(
      str(tmp_path), best_metric='top1', keep=1, read_only=True
    )
    assert reader.step('latest') == step
    assert not reader.has_score(step)
    reader.close()
    assert len(losses(tmp_path, 'test')) == step // 10 - 1
  monkeypatch.undo()
  assert train.train(run, str(tmp_path))['test'] == metrics
  assert f'The evaluation of step {saved[-1]} was cut off.' in caplog.text
  assert telemetry.read_metrics(tmp_path) == telemetry.read_metrics(workdir)
  readers = [
    checkpoint.Checkpoints(str(x), best_metric='top1', keep=1, read_only=True)
    for x in (tmp_path, workdir)
  ]
  for which in ('latest', 'best'):
    assert len({reader.step(which) for reader in readers}) == 1
  for reader in readers:
    reader.close()
  jax.tree.map(
    np.testing.assert_array_equal,
    final_params(run, tmp_path),
    final_params(run, workdir),
  )


def test_a_score_that_was_half_written_spoils_no_checkpoint(copy):
  directory = copy / 'checkpoints' / '20'
  (directory / 'metrics.orbax-checkpoint-tmp-1').mkdir()
  (directory / 'metrics.orbax-checkpoint-tmp-1' / 'metrics').write_text('{')
  assert checkpoint.damage(epath.Path(directory)) is None
  (directory / 'other').write_text('')
  assert checkpoint.damage(epath.Path(directory)) == (
    'other changed since it was written'
  )


def test_evaluation_alone_is_cut_off_too(trained, monkeypatch):
  run, workdir, _ = trained
  monkeypatch.setattr(preemption, 'is_told_to_stop', Stop(2))
  with pytest.raises(preemption.PreemptedError, match='during an evaluation'):
    train.evaluate_checkpoint(run, str(workdir))


def test_a_checkpoint_of_another_model_is_refused(copy):
  run = create(**{'model.num_latents': 9})
  before = sorted(copy.rglob('*'))
  message = r'perceiver/latents: float32\[8, 16\] in the checkpoint, float32\[9'
  for start in (train.train, train.evaluate_checkpoint):
    with pytest.raises(checkpoint.CheckpointMismatchError, match=message):
      start(run, str(copy))
  assert sorted(copy.rglob('*')) == before


def test_nan_stops_the_run_before_it_is_saved(tmp_path):
  run = create(**{'optimizer.learning_rate': 1e30, 'optimizer.name': 'adamw'})
  with pytest.raises(train.NonFiniteError, match=r'Step \d+ has loss'):
    train.train(run, str(tmp_path))
  # What was saved is finite.
  steps = [int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*')]
  if steps:
    leaves = jax.tree.leaves(final_params(run, tmp_path))
    assert all(np.isfinite(x).all() for x in leaves)
  assert np.isfinite(losses(tmp_path)).all()


def test_a_broken_last_line_is_forgotten(copy, caplog):
  path = copy / telemetry.METRICS
  path.write_text(path.read_text() + '{"step": 21, "spl')
  assert len(losses(copy)) == 20
  assert 'broken line' in caplog.text


def lamb_in_numpy(grads, params, decay, schedule, steps):
  """LAMB in float64, from its paper (You et al., 2020), on given gradients."""
  m = v = 0.0
  for t in range(steps):
    g = grads(params)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    r = m / (1 - 0.9 ** (t + 1))
    r = r / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-6) + decay * params
    trust = np.linalg.norm(params) / np.linalg.norm(r)
    params = params - schedule(t) * trust * r
  return params


def test_lamb_decays_weights_but_not_biases_and_norms():
  optimizer, schedule = optimizers.create(
    20,
    name='lamb',
    learning_rate=0.1,
    schedule='step',
    decay_at=(0.5,),
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    weight_decay=0.1,
    clip_norm=1e9,
  )
  rng = np.random.default_rng(0)
  start = {
    'layer': {n: rng.normal(size=(3, 4)) for n in ('w', 'b', 'scale', 'offset')}
  }
  target = rng.normal(size=(3, 4))
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for _ in range(20):
    grads = jax.tree.map(lambda x: x - target.astype(np.float32), params)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  for name, x in params['layer'].items():
    expected = lamb_in_numpy(
      lambda p: p - target,
      start['layer'][name],
      0.1 if name == 'w' else 0.0,
      schedule,
      20,
    )
    np.testing.assert_allclose(x, expected, rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
  optimizer, _ = optimizers.create(
    1,
    name='adamw',
    learning_rate=1.0,
    b1=0.0,
    b2=0.999,
    eps=1e3,
    weight_decay=0.0,
    clip_norm=1.0,
  )
  params = {'a': jnp.zeros(2), 'b': jnp.zeros(2)}
  # With a huge eps AdamW's first update is minus the gradient over eps.
  for size in (0.1, 100.0):
    grads = {'a': jnp.full(2, size), 'b': jnp.full(2, size)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    norm = float(optax.tree.norm(updates)) * 1e3
    np.testing.assert_allclose(norm, min(2 * size, 1.0), rtol=1e-2)


def test_learning_rates():
  imagenet = optimizers.learning_rate_schedule(
    120 * 100,
    learning_rate=4e-3,
    schedule='step',
    decay_at=(84 / 120, 102 / 120, 114 / 120),
  )
  at = [float(imagenet(epoch * 100)) for epoch in (0, 83, 84, 102, 114, 119)]
  np.testing.assert_allclose(
    at, [4e-3, 4e-3, 4e-4, 4e-5, 4e-6, 4e-6], rtol=1e-6
  )
  cosine = optimizers.learning_rate_schedule(
    100, learning_rate=1.0, schedule='cosine', warmup=0.1
  )
  rates = [float(cosine(step)) for step in (0, 5, 10, 55, 100)]
  np.testing.assert_allclose(rates, [0, 0.5, 1, 0.5, 0], atol=1e-6)
  constant_first = optimizers.learning_rate_schedule(
    100, learning_rate=1.0, schedule='cosine', decay_at=(0.5,), warmup=0.1
  )
  rates = [float(constant_first(step)) for step in (5, 10, 50, 75, 100)]
  np.testing.assert_allclose(rates, [0.5, 1, 1, 0.5, 0], atol=1e-6)
  constant = optimizers.learning_rate_schedule(100, learning_rate=1.0)
  assert float(constant(99)) == 1.0


def test_sums_are_counted_not_averaged():
  """A batch that is nearly all padding weighs no more than its examples."""
  totals = [{'top1': 3.0, 'count': 4}, {'top1': 0.0, 'count': 1}]
  run = create()
  steps = iter(evaluate.BatchResult(x, np.ones(1, bool), {}) for x in totals)
  means = evaluate.evaluate(run, lambda *_: next(steps), None, None, [{}, {}])
  assert means == Summary({'top1': 0.6, 'count': 5})


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
