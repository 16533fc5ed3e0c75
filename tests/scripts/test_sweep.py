"""Sweeps train what is asked for, survive kills and collect results."""

import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from configs import fashion_mnist
from experiments import benchmarks, experiment, history, telemetry
from experiments.errors import DataNotFoundError
from scripts.paper import examples
from scripts.report import comparison
from scripts.sweep import (
  collection,
  expectation,
  pace,
  plan,
  runner,
  stand_ins,
  training,
)
from tests import commands
from tests.conftest import ROOT
from tests.scripts.simulated_sweeps import result

NUM_TEST = 10_000
DEVICES = [training.Device(''), training.Device('gpu:1')]
# Stands in for a training: writes the files that it is given, or fails.
TRAINING = """
import json, pathlib, sys
workdir, files, status = sys.argv[1:]
print('Loss is not finite.')
for name, content in json.loads(files).items():
  (pathlib.Path(workdir) / name).write_text(content)
sys.exit(int(status))
"""


def accuracy(run):
  """Scores on the held-out and the test set; a rate of 0.003 is best."""
  loss = 0.1 + 10 * abs(run.learning_rate - 0.003) + 0.01 * run.seed
  return 1 - loss - 0.02, 1 - loss


def files_of(run):
  """The files that a training of the run leaves, by their names."""
  config = run.config()
  task = benchmarks.create(**config.task)
  end = experiment.total_steps(config, task)
  lines = [
    {'step': step, 'split': 'train', 'top1': step / end, 'time': 60.0 + step}
    for step in range(1, end + 1)
  ]
  lines += [
    {
      'step': end,
      'split': split,
      'top1': value,
      'count': NUM_TEST,
      'time': 99.0,
    }
    for split, value in zip(task.eval_splits, accuracy(run), strict=True)
  ]
  launch = {
    'time': history.iso(50.0),
    'commit': 'facade' if run.is_trial else 'c0ffee',
    'devices': ['cpu'],
  }
  return {
    telemetry.CONFIG: json.dumps(config.to_dict(), default=str),
    telemetry.LAUNCHES: json.dumps(launch) + '\n',
    telemetry.METRICS: ''.join(json.dumps(line) + '\n' for line in lines),
  }


def write_predictions(run, folder):
  """Writes what a training of the run leaves of the test examples."""
  correct = np.arange(NUM_TEST) < round(NUM_TEST * accuracy(run)[1])
  np.savez(
    folder / 'predictions_test.npz',
    step=experiment.total_steps(run.config(), run.task()),
    record=np.arange(NUM_TEST),
    loss=np.where(correct, 0.5, 2.0),
    classes=np.where(correct, 3, 4)[:, None],
    label=np.full(NUM_TEST, 3),
  )


def write(files, folder):
  for name, content in files.items():
    (folder / name).write_text(content)


@pytest.fixture
def started(monkeypatch):
  """Started runs in order; those with a rate in its `fail` fail."""
  runs = []

  def command_of(run, root):
    runs.append(run)
    fails = run.learning_rate in started.fail
    content = {} if fails else files_of(run)
    workdir = run.workdir(root)
    if not fails:
      write_predictions(run, pathlib.Path(workdir))
    texts = [workdir, json.dumps(content), str(int(fails))]
    return [sys.executable, '-c', TRAINING, *texts]

  started = lambda: runs
  started.fail = set()
  monkeypatch.setattr(training, 'command_of', command_of)
  return started


@pytest.fixture(autouse=True)
def few_seeds(monkeypatch):
  """Three at most, so that the tests' numbers are not the config's."""
  seeds = {name: min(3, x) for name, x in fashion_mnist.NUM_SEEDS.items()}
  monkeypatch.setattr(fashion_mnist, 'NUM_SEEDS', seeds)


def table2(*names, num_steps=20):
  return plan.select(['fashion_mnist'], names, {'train.steps': num_steps})


def train(variants, root, devices=DEVICES, say=print):
  """Trains the runs that are left, and returns the sweep."""
  sweep = runner.Runner(variants, str(root), devices, say)
  sweep.run()
  return sweep


def test_sweeps_and_variants_are_selected_once_each():
  variants = table2('table2', 'table7', 'table2_vit')
  names = [variant.name for variant in variants]
  assert len(names) == len(set(names)) == 12
  assert names[0] == 'table2_perceiver'
  by_name = {variant.name: variant for variant in variants}
  assert by_name['table2_perceiver'].num_seeds == 3
  (unnamed,) = table2('table5_2')  # By any claim.
  assert unnamed.num_seeds == 1
  assert by_name['table7_not_shared'].learning_rates == (1e-3, 3e-3, 1e-2)
  # It holds nothing out that could pick a rate.
  (events,) = plan.select(['audioset'], ['table3_raw'], {})
  assert (len(events.learning_rates), events.num_seeds) == (1, 10)
  whole = plan.select(['fashion_mnist', 'modelnet40', 'audioset'], [], {})
  assert len(whole) == len({variant.title for variant in whole}) == 44
  for table, size in (('table2', 10), ('table6', 8), ('table7', 2)):
    full = plan.select(['imagenet'], [table], {'data.dir': '/data'})
    assert len(full) == size
    assert {variant.num_seeds for variant in full} == {1}
    assert not any(variant.trials() for variant in full)


def test_a_trial_is_a_fraction_of_a_run():
  (variant,) = table2('table2_perceiver', num_steps=25)
  assert {run.config().train.steps for run in variant.trials()} == {9}
  assert {run.config().train.steps for run in variant.runs(1e-3)} == {25}
  (whole,) = plan.select(['fashion_mnist'], ['table2_perceiver'], {})
  trial, run = whole.trials()[0], whole.runs(1e-3)[0]
  assert experiment.total_steps(run.config(), run.task()) == 3750
  assert experiment.total_steps(trial.config(), trial.task()) == 1250


def test_a_learning_rate_that_is_given_is_not_picked():
  settings = {'optimizer.learning_rate': 0.5}
  (variant,) = plan.select(['fashion_mnist'], ['table2_vit'], settings)
  assert variant.trials() == []
  assert {run.learning_rate for run in variant.runs(0.5)} == {0.5}
  assert plan.best(variant, 'nowhere') == 0.5


def test_data_that_stands_in_for_a_benchmark_is_made(monkeypatch, tmp_path):
  called = []
  monkeypatch.setattr(stand_ins, '_call', called.append)
  select = lambda config, name: plan.select(
    [config], [name], {'data.dir': str(tmp_path / 'events')}
  )
  stand_ins.make(
    [
      *select('modelnet40', 'table4_resnet'),
      *select('modelnet40', 'table4_perceiver'),
      *select('audioset', 'table3_raw'),
    ]
  )
  assert [command[0] for command in called] == [
    *('scripts.generate_solids', 'scripts.prepare_modelnet40'),
    *('scripts.generate_audioset', 'scripts.prepare_audioset'),
  ]
  with pytest.raises(DataNotFoundError, match=r'No train-images.*dataset-fas'):
    stand_ins.make(select('fashion_mnist', 'table2_vit'))


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: plan.select(['fashion_mnist'], ['table9'], {}), 'table9; the s'),
    (lambda: plan.select(['fashion'], [], {}), "No module named 'configs.fash"),
    (lambda: table2('table2_vit', num_steps='many'), '--set: fashion_mnist:t'),
    (
      lambda: plan.select(['fashion_mnist'], [], {'seed': 3}),
      '--set=seed: NUM_SEEDS of the config sets the seeds',
    ),
    (
      lambda: plan.select(['fashion_mnist.py:permuted'], [], {}),
      "--config: 'fashion_mnist.py:permuted' does not name a config",
    ),
    (lambda: training.Device('cpu'), "'cpu' is not cpu:N"),
    (lambda: training.Device('cpu:4095'), 'there is no cpu:4095'),
  ],
)
def test_what_cannot_be_is_one_clear_error(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_the_held_out_images_pick_the_rate_that_the_seeds_have(
  started, tmp_path
):
  said = []
  variants = table2('table2_perceiver')
  train(variants, tmp_path, say=said.append)
  runs = [(run.learning_rate, run.seed) for run in started()]
  trials = [(1e-3, 0), (3e-3, 0), (1e-2, 0)]
  assert runs == [*trials, (3e-3, 0), (3e-3, 1), (3e-3, 2)]
  assert [run.is_trial for run in started()] == 3 * [True] + 3 * [False]
  assert len(said) == 6
  # Two run at once, and either may end first.
  (best,) = (x for x in said if 'learning rate 0.003, seed 0: ' in x)
  assert 'top1 88.00 %, test top1 90.00 % (' in best
  assert 'to go, until about' in said[1]
  assert said[-1].endswith('That was the last one.')

  (result,) = collection.collect(
    variants, str(tmp_path), 'command', 0.02
  ).values()
  assert result.scores == pytest.approx([0.9, 0.89, 0.88])
  assert result.learning_rate == 3e-3
  assert result.tried == pytest.approx({1e-3: 0.86, 3e-3: 0.88, 1e-2: 0.81})
  assert result.train == pytest.approx(
    39 / 40
  )  # The mean of the last two steps.
  assert result.held_out == pytest.approx([0.88, 0.87, 0.86])
  correct = result.examples.correct
  assert correct.sum(axis=1).tolist() == [9000, 8900, 8800]
  assert result.examples.loss[2, 8799:8801].tolist() == [0.5, 2.0]
  assert result.hours == pytest.approx(6 * (99 - 50) / 3600)
  assert (result.commits, result.command) == (['facade', 'c0ffee'], 'command')
  assert result.pace == 0.02

  # Started again, it finds all runs finished.
  train(variants, tmp_path, say=said.append)
  assert len(started()) == 6
  assert said[-1] == '6 of 6 runs were finished before.'

  # Runs that were finished before tell how long the others take: three trials
  # of a third of a run and one seed took 49 s each, and this one nothing.
  for run in variants[0].runs(3e-3)[1:]:
    (pathlib.Path(run.workdir(str(tmp_path))) / telemetry.METRICS).unlink()
  train(variants, tmp_path, DEVICES[:1], say=said.append)
  assert '1 to go, until about' in said[-2]
  assert re.search(r'\(in 1 min \d+ s\)', said[-2])


def test_variants_may_share_the_trials_that_pick_their_rate(started, tmp_path):
  variants = table2('table2_perceiver', 'fig6_bands_2', 'table6_2_at_start')
  assert [x.num_seeds for x in variants] == [3, 3, 1]
  said = []
  train(variants, tmp_path, say=said.append)
  assert said[-1].startswith('[10/10] ')
  assert len(set(started())) == len(started()) == 10
  assert sum(run.is_trial for run in started()) == 3
  found = collection.collect(variants, str(tmp_path), '', 0.02)
  assert {x.learning_rate for x in found.values()} == {3e-3}
  hours = [3600 * x.hours / (99 - 50) for x in found.values()]
  assert hours == pytest.approx([6, 3, 1])
  # Alone, it has to make them.
  (alone,) = table2('fig6_bands_2')
  train([alone], tmp_path / 'alone', say=said.append)
  assert said[-1].startswith('[6/6] ')


@pytest.mark.slow
def test_a_row_is_whole_before_the_next_one_begins(started, tmp_path):
  variants = table2('table2_perceiver', 'table2_vit')
  train(variants, tmp_path, DEVICES[:1])
  first, second = variants
  rows = [run.variant.title for run in started()]
  assert rows == 6 * [first.title] + 6 * [second.title]
  # A sweep that was stopped before all seeds were trained leaves this.
  left = [run for variant in variants for run in variant.runs(3e-3)]
  for run in [*left, second.trials()[-1]]:
    (pathlib.Path(run.workdir(str(tmp_path))) / telemetry.METRICS).unlink()
  train(variants, tmp_path, DEVICES[:1])
  assert started()[12:] == [*left[:3], second.trials()[-1], *left[3:]]


def test_a_run_that_fails_is_named_and_the_others_go_on(started, tmp_path):
  started.fail = {1e-3, 3e-3}
  said = []
  variants = table2('table2_transformer')
  failures = train(variants, tmp_path, say=said.append).failures
  assert len(started()) == 3 + 3
  assert {run.learning_rate for run in failures} == started.fail
  assert 'Loss is not finite. (status 1)' in set(failures.values())
  assert any('trial: FAILED: Loss is not' in line for line in said)
  (result,) = collection.collect(variants, str(tmp_path), '', 0.02).values()
  assert result.tried == {1e-3: None, 3e-3: None, 1e-2: pytest.approx(0.81)}
  # Started again, the sweep tries them again.
  started.fail = set()
  assert not train(variants, tmp_path).failures
  assert len(started()) == 6 + 2 + 3  # Now another rate is best.


def test_all_rates_of_a_variant_may_fail(started, tmp_path):
  started.fail = {1e-3, 3e-3, 1e-2}
  said = []
  variants = table2('table2')[:2]
  assert len(train(variants, tmp_path, say=said.append).failures) == 6
  assert said[-1].startswith('[6/6]')
  assert collection.collect(variants, str(tmp_path), '', 0.02) == {}


@pytest.mark.slow
def test_a_process_of_a_killed_sweep_is_waited_for(started, tmp_path):
  variants = table2('table2_transformer')
  first = variants[0].trials()[0]
  folder = (
    tmp_path / 'fashion_mnist/table2_transformer/learning_rate_0.001_trial'
  )
  assert first.workdir(str(tmp_path)) == str(folder)
  folder.mkdir(parents=True)

  def train_while_held(files):
    """Trains, while the run is held as by a process that leaves the files."""
    lock = open(folder / 'lock', 'w')  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)

    def end():
      write(files, folder)
      lock.close()

    timer = threading.Timer(0.5, end)
    timer.start()
    train(variants, tmp_path, DEVICES[:1])
    timer.join()

  train_while_held(files_of(first))
  assert first not in started()
  assert len(started()) == 5
  # If that one did not finish its run, the sweep starts it.
  (folder / telemetry.METRICS).unlink()
  train_while_held({})
  assert started()[5:] == [first]


def test_told_to_stop_it_tells_its_runs(monkeypatch, tmp_path):
  waits = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
pathlib.Path(sys.argv[1], 'ready').touch()
signal.pause()
"""
  ended = []

  def command_of(run, root):
    return [sys.executable, '-c', waits, run.workdir(root)]

  def stop():
    while len(list(tmp_path.rglob('ready'))) < len(DEVICES):
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(training, 'command_of', command_of)
  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=stop)
  thread.start()
  with pytest.raises(KeyboardInterrupt):
    train(table2('table2_transformer'), tmp_path, say=ended.append)
  thread.join()
  assert ended == ['Stopping; each run saves first.']
  assert signal.getsignal(signal.SIGTERM) == before
  for folder in tmp_path.glob('*/*/*'):  # No process holds it any more.
    with open(folder / 'lock', 'w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_directory_of_another_config_is_refused(started, tmp_path):
  train(table2('table2_transformer'), tmp_path)
  longer = table2('table2_transformer', num_steps=30)
  with pytest.raises(ValueError, match=r'has a run with train\.steps=7, which'):
    train(longer, tmp_path)


def test_devices_are_given_by_the_environment():
  assert training.Device('gpu:3').environment() == {'CUDA_VISIBLE_DEVICES': '3'}
  chip = training.Device('tpu:2').environment()
  assert chip['TPU_VISIBLE_CHIPS'] == '2'
  core = min(os.sched_getaffinity(0))
  before = os.sched_getaffinity(0)
  with training.Device(f'cpu:{core}').inherited():
    pinned = commands.python('-c', 'import os; print(os.sched_getaffinity(0))')
  assert pinned.stdout.strip() == str({core})
  assert os.sched_getaffinity(0) == before


def test_a_small_run_stands_beside_its_rows(tmp_path):
  (variant,) = plan.select(['fashion_mnist'], ['table7_not_shared'], {})
  run = variant.runs(1e-3)[0]
  write(files_of(run), tmp_path)
  (row,) = comparison.paper(history.read(str(tmp_path)))
  title = 'Table 7 in small, no weight sharing'
  assert row == (title, 'top-1 %', 72.9, pytest.approx(100 * accuracy(run)[1]))


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_a_table(tmp_path):
  command = (
    *('-m', 'scripts.sweep', f'--workdir={tmp_path}'),
    *('--config=configs/digits.py', '--variants=smoke'),
    *('--set=train.steps=6', '--set=train.checkpoint_every=2'),
  )
  process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
  run = tmp_path / 'digits/smoke/learning_rate_0.01_seed_0'
  while not (run / 'lock').exists():
    assert process.poll() is None
  process.kill()
  process.wait()
  # Its run goes on until it ends or is killed too; the sweep copes with both.
  again = commands.python(*command)
  assert again.returncode == 0, again.stderr
  score = '[1/1] digits:smoke, learning rate 0.01, seed 0: test top1'
  before = '1 of 1 runs were finished before.'
  assert score in again.stdout or before in again.stdout
  known = json.loads((tmp_path / 'results.json').read_text())
  assert len(known['digits:smoke']['scores']) == 1
  (kept,) = examples.read(tmp_path / 'results.npz').values()
  assert kept.correct.shape == (1, 360)
  assert 'Table 2 in small' in (tmp_path / 'table.md').read_text()


def test_the_command_leaves_a_table_whatever_fails(
  started, monkeypatch, tmp_path
):
  started.fail = {1e-3}
  monkeypatch.setattr(stand_ins, 'make', lambda _: None)  # Needs no data.
  monkeypatch.setattr(pace, 'of', lambda _: 0.02)
  result = commands.run(
    'scripts.sweep',
    *(f'--workdir={tmp_path}', '--config=configs/fashion_mnist.py'),
    *('--variants=table2_vit', '--set=train.steps=20'),
  )
  assert result.returncode == 1
  assert len(started()) == 6
  assert f'{tmp_path}/table.md has 1 of 1 variants.' in result.stdout
  assert result.stderr.startswith('Failed: fashion_mnist:table2_vit, learning')
  known = json.loads((tmp_path / 'results.json').read_text())
  row = known['fashion_mnist:table2_vit']
  assert row['command'].startswith('python -m scripts.sweep --workdir=')
  assert 'Table 2 in small' in (tmp_path / 'table.md').read_text()


def test_how_long_it_takes_is_said_before_it_starts(started, tmp_path):
  variants = table2('table2_vit', 'fig6_bands_2')
  say = lambda known: expectation.text(
    variants, str(tmp_path), known, pace=0.05, num_devices=2
  )
  assert say({}) == 'How long it takes is not known before the first run.'
  # Three trials, of a third of a run each, and three seeds took two hours,
  # with half the time for a step. The other variant took its rate from others.
  known = {
    'fashion_mnist:table2_vit': result(np.ones((3, 5), bool), hours=2.0),
    'fashion_mnist:fig6_bands_2': result(np.ones((1, 5), bool), hours=0.5),
  }
  tried = {1e-3: 0.8, 3e-3: 0.9, 1e-2: 0.8}
  known = {k: dataclasses.replace(x, tried=tried) for k, x in known.items()}
  assert say(known).startswith(
    'It takes about 3 h 30 min: a small step takes 50 '
  )
  assert '25 ms where it was last done' in say(known)
  train(variants[:1], tmp_path)
  assert say(known).startswith('It takes about 1 h 30 min: ')
  train(variants, tmp_path)
  assert say(known).startswith('It takes about 0.0 s: ')


@pytest.mark.slow
def test_the_pace_is_that_of_a_step(monkeypatch):
  assert 0 < pace.of(training.Device()) < 60
  monkeypatch.setattr(sys, 'executable', shutil.which('false'))
  with pytest.raises(ChildProcessError, match='gpu:7: it said nothing'):
    pace.of(training.Device('gpu:7'))


def test_what_is_wrong_is_said_before_anything_is_trained(tmp_path):
  line = commands.error(
    'scripts.sweep', f'--workdir={tmp_path / "new"}', '--set=train.step=3'
  )
  assert line.startswith('Error: --set: fashion_mnist:table2_perceiver:')
  assert not (tmp_path / 'new').exists()
