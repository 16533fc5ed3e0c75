"""Whole runs, as processes: what a user types, and what may happen to them."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from experiments import telemetry
from tests.conftest import ROOT

RUN = [sys.executable, '-m', 'experiments.run']
STEPS = 24
SETTINGS = (
  '--config=configs/digits.py:smoke',
  f'--config.train.steps={STEPS}',
  '--config.train.checkpoint_every=8',
  '--config.train.eval_every=120',
)


def run(*arguments):
  return subprocess.run(
    [*RUN, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
  )


def start(workdir, *arguments):
  """A run that goes on for longer than what is done to it takes."""
  settings = *SETTINGS, '--config.train.steps=5000'
  return subprocess.Popen(
    [*RUN, *settings, f'--workdir={workdir}', *arguments],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def losses(workdir):
  """Of each step: (step, split) -> loss; each recorded once."""
  records = telemetry.read_metrics(str(workdir))
  by_step = {(r['step'], r['split']): r['loss'] for r in records}
  assert len(by_step) == len(records)
  return by_step


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  result = run(*SETTINGS, f'--workdir={workdir}')
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith('test ')
  assert f'step {STEPS}/{STEPS}' in result.stderr
  assert result.stderr.count('Cross-attention to 64 x ') == 1
  return workdir


def recorded(workdir):
  """How many steps and evaluations a run has recorded."""
  path = workdir / telemetry.METRICS
  return path.read_bytes().count(b'\n') if path.exists() else 0


def wait_for_steps(process, workdir, count, timeout=120):
  """Until a launch has recorded so many more steps, or has ended.

  A resumed run first forgets the steps after its checkpoint, then records its
  launch.
  """
  launches = workdir / 'launches.jsonl'
  size = lambda: launches.stat().st_size if launches.exists() else 0
  before, first = size(), None
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline and process.poll() is None:
    if first is None and size() > before:
      first = recorded(workdir)
    if first is not None and recorded(workdir) >= first + count:
      return
    time.sleep(0.001)


def test_told_to_stop_the_run_saves_and_goes_on(tmp_path):
  process = start(tmp_path)
  wait_for_steps(process, tmp_path, 5)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=60) == 128 + signal.SIGTERM
  last = max(step for step, _ in losses(tmp_path))
  assert (tmp_path / 'checkpoints' / str(last) / 'manifest.json').exists()
  steps = f'--config.train.steps={last + 3}'
  result = run(*SETTINGS, steps, f'--workdir={tmp_path}')
  assert f'Going on from the checkpoint of step {last}.' in result.stderr
  trained = [step for step, split in losses(tmp_path) if split == 'train']
  assert trained == [*range(1, last + 4)]


def test_data_workers_end_with_a_run_that_is_killed(tmp_path):
  process = start(tmp_path, '--config.data.num_workers=2')
  wait_for_steps(process, tmp_path, 2)
  workers = [
    child
    for child in psutil.Process(process.pid).children()
    if any('spawn_main' in argument for argument in child.cmdline())
  ]
  assert len(workers) >= 2
  process.send_signal(signal.SIGKILL)
  process.wait()
  _, alive = psutil.wait_procs(workers, timeout=120)
  assert not alive


# Evaluation goes on for ever, so that a signal cannot come too late.
ENDLESS = """
from absl import app
from experiments import evaluate, run

batches = evaluate.batches

def endless(*arguments):
  while True:
    yield from batches(*arguments)

evaluate.batches = endless
app.run(run.main, flags_parser=run.parse_flags)
"""


def endless(*arguments):
  return subprocess.Popen(
    [sys.executable, '-c', ENDLESS, *SETTINGS, *arguments],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_told_to_stop_in_an_evaluation_the_run_saves_and_goes_on(tmp_path):
  workdir = f'--workdir={tmp_path}'
  process = endless(workdir, '--config.train.eval_every=4')
  wait_for_steps(process, tmp_path, 4)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 128 + signal.SIGTERM, errors
  assert 'Told to stop at step 4 of 24: the checkpoint is saved.' in errors
  assert (tmp_path / 'checkpoints' / '4' / 'manifest.json').exists()
  process = endless(workdir, '--mode=eval')
  for line in process.stderr:
    if 'Using the checkpoint of step 4' in line:
      break
  process.send_signal(signal.SIGINT)  # Ctrl-C is taken in the same way.
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 128 + signal.SIGTERM, errors
  assert 'Told to stop during an evaluation' in errors
  options = '--config.train.eval_every=4', '--config.train.steps=5'
  result = run(*SETTINGS, *options, workdir)
  assert result.returncode == 0, result.stderr
  assert 'The evaluation of step 4 was cut off.' in result.stderr
  steps = [(step, split) for step, split in losses(tmp_path) if split == 'test']
  assert steps == [(4, 'test'), (5, 'test')]


def test_eval_mode_evaluates_what_was_trained(undisturbed):
  result = run(*SETTINGS, f'--workdir={undisturbed}', '--mode=eval')
  assert result.returncode == 0, result.stderr
  records = telemetry.read_metrics(str(undisturbed))
  assert f'top1 {100 * records[-1]["top1"]:.2f} %' in result.stdout
  assert '(360 examples)' in result.stdout


DIGITS = '--config=configs/digits.py:smoke'
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
    ([DIGITS, 'more'], "Unknown arguments: ['more']"),
    ([DIGITS, '--num_processes=2'], 'and --process_id go together.'),
    (
      [*JOINED, '--coordinator=here', '--process_id=0'],
      '--coordinator=here is not HOST:PORT.',
    ),
    (
      [*JOINED, '--coordinator=here:80', '--process_id=2'],
      '--process_id=2 is not below --num_processes=2.',
    ),
    ([DIGITS, '--config.train.accumulate=3'], 'is not divisible by'),
    (['--config=configs/imagenet.py'], 'No ImageNet (train) at data.dir='),
    (
      [DIGITS, '--config.optimizer.learning_rate=nan'],
      'Error: optimizer.learning_rate=nan must be in [0, inf).',
    ),
  ],
)
def test_bad_input_is_one_clear_error(tmp_path, arguments, message):
  workdir = tmp_path / 'run'
  result = run(*arguments, f'--workdir={workdir}')
  assert result.returncode != 0
  assert message in result.stderr
  assert 'Traceback' not in result.stderr
  assert not workdir.exists()
