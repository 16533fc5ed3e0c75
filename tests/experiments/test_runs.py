"""Whole runs, started as a user does, and interrupted."""

import os
import re
import signal

import psutil
import pytest

from experiments import hold, preemption, saved, train
from tests.experiments import processes
from tests.experiments.smoke import checkpoints, create, latest, losses, starts

DIGITS = '--config=configs/digits.py:smoke'
# More steps than a run gets to before it is stopped.
LONG = '--config.train.steps=100000', '--config.train.eval_every=5'
# As a user's, without the tests' cache; JAX logs what it compiles.
COMPILES = {
  'JAX_COMPILATION_CACHE_DIR': '',
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '1',
  'JAX_DEBUG_LOG_MODULES': 'jax._src.compiler',
}


def read_until(process, text):
  """Reads the log of a process up to a line with this text."""
  log = ''
  for line in process.stderr:
    log += line
    if text in line:
      return log
  raise AssertionError(f'It ended before it said {text!r}:\n{log}')


@pytest.mark.slow
def test_a_run_trains_and_says_how_well(tmp_path, command):
  status, output, errors = processes.run(tmp_path)
  assert status == 0, errors
  assert re.fullmatch(
    r'test top1 \d+\.\d\d %, loss \d\.\d{4} \(360 examples\)\n', output
  )
  assert 'step 20/20' in errors
  assert errors.count('Cross-attention to 64 x ') == 1
  assert len(losses(tmp_path)) == 20
  assert latest(tmp_path) == 20
  # Another evaluation prints the same.
  again = command(DIGITS, f'--workdir={tmp_path}', '--mode=eval')
  assert again.stdout == output


def test_a_command_that_was_told_to_stop_has_the_status_of_a_signal(
  tmp_path, command, monkeypatch
):
  def stop(run, workdir):
    raise preemption.PreemptedError(f'Told to stop in {workdir}.')

  monkeypatch.setattr(train, 'train', stop)
  ended = command(DIGITS, f'--workdir={tmp_path}')
  assert ended.returncode == 128 + signal.SIGTERM
  assert (ended.stdout, ended.stderr) == ('', f'Told to stop in {tmp_path}.\n')


def contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and path.name != hold.FILE
  }


@pytest.mark.slow
@pytest.mark.versions
def test_a_run_that_is_killed_goes_on(tmp_path):
  """A running launch holds it; after a kill, the next one goes on."""
  workers = '--config.data.num_workers=2'
  with processes.start(tmp_path, *LONG, workers, **COMPILES) as first:
    try:
      log = read_until(first, 'step 15: test')
      assert "CACHE MISS for 'jit_train_step'" in log
      first.send_signal(signal.SIGSTOP)  # Otherwise it would go on writing.
      os.waitpid(first.pid, os.WUNTRACED)  # Waits until it has stopped.
      before = contents(tmp_path)
      message = (
        f'{tmp_path} is in use: process {first.pid} on .* has trained there'
        ' since 20'
      )
      with pytest.raises(hold.WorkdirInUseError, match=message):
        train.train(create(), str(tmp_path))
      assert contents(tmp_path) == before
      # An evaluation ignores the hold.
      assert saved.evaluate_checkpoint(create(), str(tmp_path))['test']
      decoders = [
        child
        for child in psutil.Process(first.pid).children()
        if 'spawn_main' in ' '.join(child.cmdline())
      ]
    finally:
      first.kill()
  assert len(decoders) >= 2
  _, alive = psutil.wait_procs(decoders, timeout=120)
  assert not alive  # Data workers end with the run.
  assert (tmp_path / hold.FILE).exists()
  step = latest(tmp_path)
  with processes.start(tmp_path, *LONG, **COMPILES) as second:
    log = read_until(second, f'step {step - step % 5 + 10}: test')
    second.terminate()
    log += second.stderr.read()
  assert second.returncode == 128 + signal.SIGTERM
  # It takes over at once, and reuses what the first one compiled.
  assert f'Going on from the checkpoint of step {step}.' in log
  assert "cache hit for 'jit_train_step'" in log
  assert "cache hit for 'jit_eval_step'" in log
  assert 'CACHE MISS' not in log
  (last,) = re.findall(r'Told to stop at step (\d+) of 100000', log)
  assert latest(tmp_path) == int(last) > step
  assert len(losses(tmp_path)) == int(last)
  assert not (tmp_path / hold.FILE).exists()
  assert starts(tmp_path) == [0, step]


# Evaluation goes on for ever, so that a signal cannot come too late.
ENDLESS = """
from absl import app
from experiments import evaluate, run

batches = evaluate.batches

def endless(*arguments):
  while True:
    print('It evaluates.', file=run.sys.stderr, flush=True)
    yield from batches(*arguments)

evaluate.batches = endless
app.run(run.main, flags_parser=run.parse_flags)
"""


@pytest.mark.slow
def test_ctrl_c_in_an_evaluation_ends_it_with_a_checkpoint(tmp_path):
  with processes.start(
    tmp_path, '--config.train.eval_every=4', code=ENDLESS
  ) as process:
    read_until(process, 'It evaluates.')
    process.send_signal(signal.SIGINT)  # It is handled as SIGTERM is.
    errors = process.stderr.read()
  assert process.returncode == 128 + signal.SIGTERM, errors
  assert 'Stopping with a checkpoint. Ctrl-C again: at once.' in errors
  assert 'Told to stop at step 4 of 20: the checkpoint is saved.' in errors
  with checkpoints(tmp_path) as reader:
    assert reader.step('latest') == 4
    assert not reader.has_score(4)  # See test_preemption.py.


JOINED = (DIGITS, '--num_processes=2')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([DIGITS, '--config.train.stpes=3'], 'Did you mean "steps" instead of'),
    (['--config=configs/digits.py:smok'], "No variant 'smok'; there are"),
    (['--config=configs/digit.py'], "No such file or directory: 'configs/dig"),
    ([], '--config must have a value'),
    ([DIGITS, '--config.train.batch_size=many'], 'invalid literal for int'),
    ([DIGITS, '--workdir='], 'Error: --workdir is empty: is a variable unset'),
    ([DIGITS, '--mode=test'], 'should be one of <train|eval>'),
    ([DIGITS, '--mode=eval'], 'No checkpoints in --workdir='),
    ([DIGITS, '--flag=1'], "Unknown command line flag 'flag'"),
    ([DIGITS, '--num_processes=2'], 'and --process_id go together.'),
    (
      [*JOINED, '--coordinator=here', '--process_id=0'],
      '--coordinator=here is not HOST:PORT.',
    ),
    (
      [*JOINED, '--coordinator=here:80', '--process_id=2'],
      '--process_id=2 is not below --num_processes=2.',
    ),
    (['--config=configs/imagenet.py'], 'No ImageNet (train) at data.dir='),
  ],
)
def test_bad_input_is_one_clear_error(tmp_path, command, arguments, message):
  ended = command(*arguments, f'--workdir={tmp_path}/run')
  assert ended.returncode == 1
  (line,) = ended.stderr.splitlines()
  assert line.startswith('Error: ')
  assert message in line
  assert not (tmp_path / 'run').exists()


def test_more_arguments_are_an_error_of_usage(tmp_path, command):
  ended = command(DIGITS, f'--workdir={tmp_path}/run', 'more')
  assert "Unknown arguments: ['more']" in ended.stderr
