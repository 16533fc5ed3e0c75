"""The command makes data, says how long it takes and leaves a table."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.errors import DataNotFoundError
from scripts.paper import examples
from scripts.sweep import (
  collection,
  expectation,
  pace,
  plan,
  stand_ins,
  training,
)
from tests import commands
from tests.conftest import ROOT
from tests.scripts.simulated_sweeps import result
from tests.scripts.sweep.trained import table2, train


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
  collect = collection.collect
  on_two_splits = lambda *arguments: {
    title: result
    for first, result in collect(*arguments).items()
    for title in (first, f'{first}/eval_without_video')
  }
  monkeypatch.setattr(collection, 'collect', on_two_splits)
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
