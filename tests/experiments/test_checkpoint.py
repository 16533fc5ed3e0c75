"""Checkpoints: seals that show damage, and which ones are kept."""

from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import checkpoint, saved, seal, storage, telemetry, train
from tests.experiments.smoke import (
  checkpoints,
  create,
  final_params,
  latest,
  losses,
)


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


def test_a_checkpoint_of_another_model_is_refused(copy):
  run = create(**{'model.num_latents': 9})
  (copy / telemetry.CONFIG).unlink()  # Compared first, see test_saved.py.
  before = sorted(copy.rglob('*'))
  message = r'perceiver/latents: float32\[8, 16\] in the checkpoint, float32\[9'
  for start in (train.train, saved.evaluate_checkpoint):
    with pytest.raises(checkpoint.CheckpointMismatchError, match=message):
      start(run, str(copy))
  assert sorted(copy.rglob('*')) == before


def test_a_score_that_was_half_written_spoils_no_checkpoint(copy):
  directory = copy / 'checkpoints' / '20'
  (directory / 'metrics.orbax-checkpoint-tmp-1').mkdir()
  (directory / 'metrics.orbax-checkpoint-tmp-1' / 'metrics').write_text('{')
  assert seal.find_damage(epath.Path(directory)) is None
  # A file that the seal does not name changes nothing; one that it names does.
  (directory / 'other').write_text('')
  assert seal.find_damage(epath.Path(directory)) is None
  (directory / '_CHECKPOINT_METADATA').write_text('')
  assert seal.find_damage(epath.Path(directory)) == (
    '_CHECKPOINT_METADATA changed since it was written'
  )


def test_strays_are_never_sealed(copy):
  directory = storage.path(copy) / 'checkpoints' / '20'
  strays = [directory / 'state' / x for x in ('.nfs01', '._d', 'a~', '.b.swp')]
  for path in strays:
    path.write_text('open')
  (directory / seal.MANIFEST).unlink()
  seal.write(directory)
  for path in strays:
    path.unlink()
  assert seal.find_damage(directory) is None
  # A later score is added to the seal, and the rest stays as it was.
  (directory / 'state' / '_METADATA').write_text('spoilt')
  seal.write(directory, part=seal.SCORE)
  assert seal.find_damage(directory) == (
    'state/_METADATA changed since it was written'
  )


def test_what_cannot_be_read_is_not_sealed(copy):
  directory = storage.path(copy) / 'checkpoints' / '20'
  (directory / seal.MANIFEST).unlink()
  (copy / 'checkpoints' / '20' / 'state' / 'x').symlink_to('/proc/self/mem')
  with pytest.raises(OSError, match='Input/output error'):
    seal.write(directory)
  assert seal.find_damage(directory) == 'it was never finished'


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
