"""Sweeps train all runs, survive kills and name what fails."""

import fcntl
import os
import pathlib
import re
import signal
import sys
import threading
import time

import pytest

from experiments import telemetry
from scripts.sweep import collection, training
from tests import commands
from tests.scripts.sweep.trained import DEVICES, files_of, table2, train, write


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
