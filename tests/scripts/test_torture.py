"""Tortures in short; what they find wrong, if something is."""

import dataclasses
import math
import os
import pathlib
import random
import subprocess
import sys

import pytest

from scripts import torture
from scripts.torturing import (
  damage,
  kills,
  launches,
  scores,
  shares,
  signals,
  soak,
  victim,
)
from scripts.torturing.outcome import Outcome
from tests.conftest import ROOT


def assert_all_survived(outcomes):
  assert outcomes
  for outcome in outcomes:
    assert outcome.tried > 0
    assert outcome.survived == outcome.tried, outcome.note
    assert outcome.lost == 0


def test_damaged_checkpoints_are_passed_over(tmp_path):
  outcomes = list(damage.run(1, 0.02, str(tmp_path)))
  assert [outcome.tried for outcome in outcomes] == [10, 2, 2]
  assert_all_survived(outcomes)


def test_damage_that_goes_unseen_is_lost(tmp_path, monkeypatch):
  monkeypatch.setattr('experiments.seal.damage', lambda directory: None)
  # Of a bit that spoils no restore: where one fails, Orbax leaves coroutines
  # behind, which are warned of whenever they are collected.
  flip = lambda path, rng: f'a bit of {path.name} flipped'
  monkeypatch.setattr(damage, '_flip', flip)
  flips = next(damage.run(0, 0.004, str(tmp_path)))
  assert (flips.tried, flips.survived, flips.lost) == (2, 0, 2)
  assert ' flipped, other arrays were restored' in flips.note


def test_latest_and_best_are_right_after_random_scores(tmp_path):
  assert_all_survived(list(scores.run(0, 0.04, str(tmp_path))))


def test_the_wrong_best_is_lost(tmp_path, monkeypatch):
  monkeypatch.setattr(scores, 'best_of', lambda scores: min(scores))
  (outcome,) = scores.run(0, 0.03, str(tmp_path))
  assert outcome.lost == 3
  assert 'best is' in outcome.note


@pytest.mark.parametrize(
  ('values', 'best'),
  [
    ({1: 0.5, 2: math.nan, 10: 0.5, 12: 0.2}, 10),
    ({1: 0.5, 2: math.inf, 3: None}, 1),
    ({1: -1.0, 2: math.nan, 3: None}, 1),
    ({1: math.nan, 2: -math.inf, 3: None}, 3),
    ({7: None}, 7),
  ],
)
def test_the_best_is_the_latest_of_the_highest_finite_ones(values, best):
  assert scores.best_of(values) == best


def test_each_example_is_dealt_once(tmp_path):
  assert_all_survived(list(shares.run(0, 0.1, str(tmp_path))))


def test_examples_that_are_dealt_twice_are_lost(tmp_path, monkeypatch):
  train, evaluate = shares.pipeline.train_batches, shares.pipeline.eval_batches
  for name, batches in (('train_batches', train), ('eval_batches', evaluate)):
    # Each process gets what the first one gets.
    alike = lambda *arguments, batches=batches, process_index, **settings: (
      batches(*arguments, process_index=0, **settings)
    )
    monkeypatch.setattr(shares.pipeline, name, alike)
  for outcome in shares.run(0, 0.1, str(tmp_path)):
    assert outcome.lost > 0
    assert outcome.survived + outcome.lost == outcome.tried


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
  """A run that was left alone, and what it left."""
  case = launches.digit_case()
  return case, kills.undisturbed(case, str(tmp_path_factory.mktemp('digits')))


def test_killed_at_each_moment_a_run_ends_the_same(digits, tmp_path):
  seed = random.random()
  print(f'seed {seed}')  # Shown if the test fails.
  moments = ['', *victim.MOMENTS]
  outcome = kills.kill(*digits, seed, moments, str(tmp_path))
  assert (outcome.tried, outcome.lost) == (7, 0), outcome.note


def test_a_moment_that_never_comes_is_lost(digits, tmp_path, monkeypatch):
  case, trace = digits
  monkeypatch.setattr(launches, 'MOST_IDLE', 2)
  monkeypatch.setattr(kills, '_launch', lambda *arguments: False)
  monkeypatch.setattr(launches, 'finish', lambda *arguments: trace)
  outcome = kills.kill(case, trace, 0.0, ['save', 'save'], str(tmp_path))
  assert (outcome.tried, outcome.survived, outcome.lost) == (2, 0, 2)
  assert "2 runs end before 'save'" in outcome.note


def test_a_run_that_ends_otherwise_is_lost(digits, tmp_path):
  case, trace = digits
  (step, split), *_ = trace.losses
  other = {**trace.losses, (step, split): {'loss': 0.0}}
  batches = [{**trace.batches[0], 3: {'another'}}]
  assert trace.difference(trace) == ''
  for changed, what in (
    ({'losses': other}, f'recorded of ({step}, {split!r})'),
    ({'batches': batches}, 'the batch of step 3 at rank 0'),
    ({'state': ''}, 'the last state'),
  ):
    assert what in trace.difference(dataclasses.replace(trace, **changed))
  workdir, log = f'{tmp_path}/run', f'{tmp_path}/log'
  with pytest.raises(RuntimeError, match=r'cannot go on: statuses \[1\]'):
    launches.finish(
      dataclasses.replace(case, settings=('data.num_workers=-1',)),
      workdir,
      log,
    )


@pytest.mark.parametrize(
  ('activities', 'statuses', 'judgement'),
  [
    (['step 3', 'an evaluation', 'saving step 3'], [143, 143], (2.0, '')),
    (['step 3', 'an evaluation'], [143, 143], (0.0, 'nothing was saved')),
    (['restoring', 'an evaluation'], [143, 143], (2.0, '')),
    (['saving step 3'], [143, 1], (0.0, 'the statuses are [143, 1]')),
    (['step 3'], [0, 0], None),
  ],
)
def test_what_a_signal_may_come_to(activities, statuses, judgement):
  class Launch:
    def lines(self, rank):
      return [{'activity': x, 'time': 8.0} for x in activities]

  stop = signals._judge(Launch(), statuses, 0, 7.5, 10.0)
  assert judgement == (stop and (stop.seconds, stop.problem))


def steps(times):
  return [{'activity': f'step {i}', 'time': t} for i, t in enumerate(times)]


@pytest.mark.parametrize('statuses', [[0, 0], [143, 143]])
def test_a_signal_that_was_not_heard_while_steps_were_left_is_lost(statuses):
  class Launch:
    def __init__(self, times):
      self.times = times

    def lines(self, rank):
      return [
        *steps([1.0, 2.0, *self.times]),
        {'activity': 'saving step 9', 'time': 39.0},
      ]

  judge = lambda times: signals._judge(Launch(times), statuses, 1, 20.5, 40.0)
  # It was sent in a step that compiled until 30.0.
  lost = judge([30.0, 35.1, 35.2, 35.3])
  assert lost.problem == 'it was not heard, up to step 5'
  for in_time in ([30.0, 34.9, 35.1, 35.2], [30.0], []):
    stop = judge(in_time)
    assert stop is None if statuses == [0, 0] else stop.problem == ''


def test_signals_during_a_save_are_told_from_others():
  class Launch:
    def lines(self, rank):
      return [
        {'activity': 'saving step 2', 'time': 2.0},
        {'sealed': '2', 'time': 3.0},
        {'activity': 'step 3', 'time': 3.5},
        {'activity': 'saving step 3', 'time': 4.0},
      ]

  for sent, during_save in ((1.9, 0), (2.0, 1), (2.9, 1), (3.2, 0), (4.5, 1)):
    stop = signals._judge(Launch(), [143], 0, sent, 5.0)
    assert stop.during_save == during_save


def sample(steps, **more):
  return soak.Sample(
    steps, **{'memory': 2**30, 'files': 9, 'threads': 9, **more}
  )


def test_a_soak_sees_what_grows():
  begins = [sample(x) for x in range(0, 1000, 10)]
  steady = soak.growth(begins, 1000)
  assert {name: is_good for name, (is_good, _) in steady.items()} == {
    'memory': True,
    'files': True,
    'threads': True,
  }
  grown = [sample(x, memory=2**30 + x * 2**17) for x in range(0, 1000, 10)]
  assert soak.growth(grown, 1000)['memory'] == (
    False,
    '1042 to 1143 MiB, +9.7 %',
  )
  # Threads may be started for longer.
  for name, first in (('files', 10), ('threads', 11)):
    leak = [sample(x, **{name: 9 + x // 100}) for x in range(0, 1000, 10)]
    assert soak.growth(leak, 1000)[name] == (False, f'{first} to 18')
  # What it takes as it starts, and at the end, does not count.
  ends = [sample(50, files=1), *begins[10:], sample(1000, files=99)]
  assert soak.growth(ends, 1000) == steady
  pool = [sample(x, threads=8 + (x >= 200)) for x in range(0, 1000, 10)]
  assert soak.growth(pool, 1000) == steady
  # Nor does a single look, as at something that is just replaced.
  looks = [sample(x, files=8 if x == 120 else 9) for x in range(0, 1000, 10)]
  assert soak.growth(looks, 1000) == steady
  assert not any(is_good for is_good, _ in soak.growth([], 1000).values())


def survives(seed, scale, folder):
  pathlib.Path(folder, 'file').touch()
  yield Outcome('one', round(10 * scale), round(10 * scale), 0, f'seed {seed}')


def loses(seed, scale, folder):
  yield Outcome('another', 3, 2, 1, f'{folder}: a|b\nc')


@pytest.fixture
def fakes(monkeypatch, tmp_path):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  monkeypatch.setattr(damage, 'run', survives)
  monkeypatch.setattr(shares, 'run', loses)
  monkeypatch.setenv('JAX_PLATFORMS', os.environ['JAX_PLATFORMS'])
  return tmp_path


def test_a_table_tells_what_survived_and_nothing_is_left(fakes, capsys):
  torture.main(['damage'], 5, 0.5, None)
  printed = capsys.readouterr()
  assert printed.out == (
    '| Test | Tried | Survived | Lost | Note |\n'
    '| --- | ---: | ---: | ---: | --- |\n'
    '| one | 5 | 5 | 0 | seed 5 |\n'
  )
  assert printed.err == 'Seed 5, scale 0.5.\none: 5 of 5 survived\n'
  assert list(fakes.iterdir()) == []


def test_where_something_is_lost_the_folder_is_kept_and_named(fakes, capsys):
  with pytest.raises(SystemExit) as ended:
    torture.main(['shares', 'damage'], 0, 1.0, None)
  (folder,) = fakes.iterdir()
  assert str(ended.value) == f'Something was lost: see {folder}.'
  assert (next(folder.glob('damage-*')) / 'file').exists()
  rows = capsys.readouterr().out.splitlines()[2:]
  assert rows[0].startswith('| another | 3 | 2 | 1 | ')
  assert rows[0].endswith('a\\|b c |')
  assert rows[1] == '| one | 10 | 10 | 0 | seed 0 |'


def test_a_folder_that_was_named_is_kept(fakes):
  folder = fakes / 'mine' / 'own'
  torture.main(['damage'], 0, 1.0, str(folder))
  assert (next(folder.glob('damage-*')) / 'file').exists()


def test_kills_of_preparation_are_counted(monkeypatch, tmp_path):
  from scripts.torturing import preparing

  run = lambda seed, count, folder: Outcome(folder, count, seed, 0)
  monkeypatch.setattr(preparing, 'run', run)
  test = torture.find('preparing')
  assert list(test(7, 1.0, 'here')) == [Outcome('here', 10, 7, 0)]
  assert list(test(7, 0.01, 'here')) == [Outcome('here', 1, 7, 0)]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--tests=damage,fire'], "Error: --tests: there is no 'fire', only kills"),
    (['--scale=-1'], 'flag --scale=-1'),
    (['more'], "Unknown arguments: ['more']"),
  ],
)
def test_what_is_wrong_is_one_line(arguments, message):
  result = subprocess.run(
    [sys.executable, '-m', 'scripts.torture', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  assert message in result.stdout + result.stderr
  assert 'Traceback' not in result.stderr
