"""A run that is told to stop, at each of the moments when it asks."""

import jax
import numpy as np
import pytest

from experiments import saved, train
from tests import commands
from tests.experiments.smoke import (
  checkpoints,
  final_params,
  latest,
  losses,
  told_to_stop,
)

# A process that goes on from step 1,000, and saves before each question.
SAVING = """
import itertools, os, signal, sys, time
import jax.numpy as jnp
from experiments import checkpoint, preemption, processes
from tests.torture import emulator

processes.join('%s:%d' % emulator.free_address(), 1, 0)
checkpoints = checkpoint.Checkpoints(
  sys.argv[1], best_metric='top1', keep=1, read_only=False
)
for step in itertools.count(1000):
  checkpoints.save(step, {'x': jnp.ones(3)}, position=step)
  if step == 1003:
    os.kill(os.getpid(), signal.SIGTERM)
  if preemption.is_told_to_stop():
    break
  if step > 1003:
    time.sleep(0.05)  # JAX looks for the signal once a second.
  if step == 2000:
    sys.exit('The signal is lost.')
checkpoints.close()
print(step)
"""


SLOW = pytest.mark.slow


# A run of 20 steps asks after each step, and in the evaluations of steps 10 and
# 20 after each of 3 batches.
@pytest.mark.parametrize(
  ('questions', 'saved'),
  [
    ([11], [10]),  # In the first batch of an evaluation.
    pytest.param([13], [10], marks=SLOW),  # In its last.
    pytest.param([10], [10], marks=SLOW),  # Just before it.
    pytest.param([25], [20], marks=SLOW),  # In the evaluation at the end.
    pytest.param([23], [20], marks=SLOW),  # Before that one.
    # Twice in one evaluation, once in another.
    pytest.param([12, 2, 14], [10, 10, 20], marks=SLOW),
  ],
)
def test_an_evaluation_that_was_cut_off_is_done_first(
  trained, tmp_path, caplog, questions, saved
):
  run, workdir, metrics = trained
  for question, step in zip(questions, saved, strict=True):
    with told_to_stop(question):
      train.train(run, str(tmp_path))
    with checkpoints(tmp_path) as reader:
      assert reader.step('latest') == step
      assert not reader.has_score(step)
    assert len(losses(tmp_path, 'test')) == step // 10 - 1
  assert train.train(run, str(tmp_path))['test'] == metrics
  assert f'The evaluation of step {saved[-1]} was cut off.' in caplog.text
  assert losses(tmp_path, 'test') == losses(workdir, 'test')
  assert losses(tmp_path) == losses(workdir)
  with checkpoints(tmp_path) as ours, checkpoints(workdir) as theirs:
    for which in ('latest', 'best'):
      assert ours.step(which) == theirs.step(which)
  jax.tree.map(
    np.testing.assert_array_equal,
    final_params(run, tmp_path),
    final_params(run, workdir),
  )


def test_evaluation_alone_is_cut_off_too(trained):
  run, workdir, _ = trained
  with told_to_stop(2, 'during an evaluation'):
    saved.evaluate_checkpoint(run, str(workdir))


@pytest.mark.slow
def test_saves_between_the_questions_lose_no_signal(tmp_path):
  process = commands.python('-c', SAVING, tmp_path)
  assert process.returncode == 0, process.stderr
  assert latest(tmp_path) == int(process.stdout) > 1003
