"""The judges of tortures judge: what is lost they find, what is not they pass.

Most of them on runs that are made up; the kills and damages are real where they
are marked as slow.
"""

import dataclasses
import os
import pathlib
import random
import shutil
import signal
import types
from unittest import mock

import pytest

from experiments import telemetry, train
from tests import commands
from tests.experiments.smoke import create
from tests.torture import __main__ as torture
from tests.torture import (
  damage,
  hangs,
  kills,
  launches,
  signals,
  soak,
  victim,
)
from tests.torture.outcome import Outcome


def assert_all_survived(outcomes):
  assert outcomes
  for outcome in outcomes:
    assert outcome.tried > 0
    assert outcome.survived == outcome.tried, outcome.note
    assert outcome.lost == 0


@pytest.mark.slow
def test_each_kind_of_damage_is_passed_over(tmp_path):
  outcomes = list(damage.run(1, 0.004, str(tmp_path)))
  assert [outcome.tried for outcome in outcomes] == [2, 1, 1]
  assert_all_survived(outcomes)
  assert [path.name for path in tmp_path.iterdir()] == ['original']


@pytest.fixture
def left(trained, monkeypatch):
  """Damages copies of the smoke run, where it would train the same first."""
  run, workdir, _ = trained
  copy = lambda folder: shutil.copytree(workdir, folder) and run
  monkeypatch.setattr(damage, '_train', copy)


@pytest.mark.slow
def test_damage_that_goes_unseen_is_lost(left, tmp_path, monkeypatch):
  monkeypatch.setattr('experiments.seal.find_damage', lambda directory: None)
  # Of a bit that spoils no restore: where one fails, Orbax leaves coroutines
  # behind, which are warned of whenever they are collected.
  flip = lambda path, rng: f'a bit of {path.name} flipped'
  monkeypatch.setattr(damage, '_flip', flip)
  flips = next(damage.run(0, 0.004, str(tmp_path)))
  assert (flips.tried, flips.survived, flips.lost) == (2, 0, 2)
  assert ' flipped, other arrays were restored' in flips.note


CASE = launches.digit_case()
# What such a run left, as far as it is compared.
TRACE = launches.Trace(
  losses={(1, 'train'): {'loss': 2.0}, (2, 'test'): {'loss': 1.0}},
  batches=[{1: {'a'}, 2: {'b'}}],
  state='c',
)
OTHERS = [
  ({'losses': {**TRACE.losses, (2, 'test'): {'loss': 0.0}}}, "of (2, 'test')"),
  ({'batches': [{1: {'a'}, 2: {'b', 'd'}}]}, 'the batch of step 2 at rank 0'),
  ({'batches': [{1: {'a'}}]}, 'the batch of step 2 at rank 0'),
  ({'state': ''}, 'the last state'),
]


@pytest.mark.parametrize(('changed', 'what'), OTHERS)
def test_a_run_that_ends_otherwise_differs(changed, what):
  assert TRACE.difference(TRACE) == ''
  assert what in TRACE.difference(dataclasses.replace(TRACE, **changed))


class Launched:
  """A launch whose processes have ended, each as it is told."""

  def __init__(self, statuses, lines=()):
    self.log = 'log'
    self.processes = [mock.Mock(pid=1) for _ in statuses]
    self.statuses, self.told = statuses, lines

  def __enter__(self):
    return self

  def __exit__(self, *error):
    pass

  def wait(self):
    return self.statuses

  def wait_for(self, is_sought, number=1, rank=0):
    return True

  def is_running(self):
    return False

  def lines(self, rank=0):
    return list(self.told)


@pytest.fixture
def launch(monkeypatch):
  """Lets launches end with such statuses, and runs leave such a trace."""
  launched = []

  def set_up(statuses, trace=TRACE, lines=()):
    def start(case, workdir, log, victims=None, *more, **settings):
      launched.append(victims)
      return Launched(statuses, lines)

    for module in (kills, hangs, launches):
      monkeypatch.setattr(module, 'Launch', start)
    for name in ('finish', 'trace'):
      monkeypatch.setattr(launches, name, lambda *arguments: trace)
    monkeypatch.setattr(launches, 'MOST_IDLE', 2)
    return launched

  return set_up


KILLED = [-signal.SIGKILL]


def test_kills_that_a_run_survives_are_counted(launch, tmp_path):
  launched = launch(KILLED)
  moments = ['delete', 'save', 'compile']
  outcome = kills.kill(CASE, TRACE, 0.0, moments, str(tmp_path))
  assert outcome == Outcome('digits', tried=3, survived=3, lost=0)
  # Before something can be deleted or restored, something has to be saved.
  aims = [victims[0]['moment'] for victims in launched]
  assert aims == ['evaluation', *moments]
  assert not list(tmp_path.iterdir())
  assert kills.merged('all', [outcome, outcome]).survived == 6


def test_a_kill_at_random_may_come_as_the_run_starts(launch, tmp_path):
  launch(KILLED)
  with mock.patch('time.sleep') as slept:
    outcome = kills.kill(CASE, TRACE, 0.0, [''] * 20, str(tmp_path))
  assert (outcome.tried, outcome.lost) == (20, 0)
  seconds = [call.args[0] for call in slept.call_args_list]
  assert len(seconds) == 20
  assert min(seconds) < 0.05 < max(seconds) < 5


@pytest.mark.parametrize(
  ('statuses', 'trace', 'outcome', 'note'),
  [
    (KILLED, {'state': 'd'}, (2, 0, 2), 'the last state is another'),
    ([1], {}, (1, 0, 1), 'It ended with 1, see log.0.txt'),
    ([0], {}, (2, 0, 2), "2 runs end before 'save'"),
  ],
)
def test_kills_that_a_run_does_not_survive_are_lost(
  launch, tmp_path, statuses, trace, outcome, note
):
  launch(statuses, dataclasses.replace(TRACE, **trace))
  moments = ['save'] * outcome[0]
  found = kills.kill(CASE, TRACE, 0.0, moments, str(tmp_path))
  assert found[1:4] == outcome
  assert note in found.note
  assert list(tmp_path.iterdir())  # To be looked at.


def hang(statuses, seconds, tmp_path):
  """The outcome of a fault that was so long ago when all were gone."""
  with mock.patch('time.time', return_value=1000.0):
    return hangs._ended(
      *('hangs: fault', CASE, TRACE, random.Random(0), 1, str(tmp_path)),
      fault=lambda launch, rng: 1000.0 - seconds,
      victims=lambda rng: {},
    )


@pytest.mark.parametrize(
  ('statuses', 'seconds', 'activity', 'problem'),
  [
    ([75, 75], 29.0, 'step 3', ''),
    ([75, 75], 31.0, 'step 3', 'after 31 s the statuses are [75, 75]'),
    ([75, 75], 69.0, 'compilation', ''),
    ([75, None], 9.0, 'step 3', 'after 9 s the statuses are [75, None]'),
    ([75, 0], 9.0, 'step 3', '2 runs end as if nothing were wrong: [75, 0]'),
  ],
)
def test_what_hangs_has_to_be_gone_in_time(
  launch, tmp_path, statuses, seconds, activity, problem
):
  launch(statuses, lines=[{'activity': activity, 'time': 1.0}])
  outcome = hang(statuses, seconds, tmp_path)
  assert (outcome.tried, outcome.lost) == (1, bool(problem))
  assert problem in outcome.note
  launch(statuses, dataclasses.replace(TRACE, state='d'))
  assert hang(statuses, 9.0, tmp_path).lost == 1


@pytest.mark.parametrize(
  ('statuses', 'state', 'problem'),
  [
    ([0], 'c', ''),
    ([1], 'c', 'the status is 1'),
    ([0], 'd', 'the last state is another'),
  ],
)
def test_a_run_has_to_go_on_without_a_data_worker(
  launch, tmp_path, monkeypatch, statuses, state, problem
):
  trace = dataclasses.replace(TRACE, state=state)
  launch(statuses, trace, [{'batch': 'a', 'step': 1}])
  monkeypatch.setattr(hangs, '_kill_worker', lambda pid, rng: True)
  outcome = hangs._replaced(CASE, TRACE, random.Random(0), 3, str(tmp_path))
  assert outcome[1:4] == ((3, 0, 3) if problem else (3, 3, 0))
  assert problem in outcome.note


@pytest.mark.slow
def test_a_run_that_cannot_go_on_is_named(tmp_path):
  case = dataclasses.replace(CASE, settings=('data.num_workers=-1',))
  with pytest.raises(RuntimeError, match=r'cannot go on: statuses \[1\]'):
    launches.finish(case, f'{tmp_path}/run', f'{tmp_path}/log')
  assert 'data.num_workers=-1' in (tmp_path / 'log.0.txt').read_text()


@pytest.fixture
def met(monkeypatch):
  """Moments as they come in this process, which goes on after each."""
  moments = []
  meet = lambda self, moment, do=None: moments.append(moment)
  monkeypatch.setattr(victim._Ending, 'at', meet)
  yield moments
  mock.patch.stopall()


@pytest.mark.slow
def test_a_victim_meets_each_moment_and_tells_what_it_does(copy, tmp_path, met):
  log = f'{tmp_path}/log'
  shutil.rmtree(copy / 'checkpoints' / '20')  # So that it goes on from 15.
  victim.prepare(victim.Settings(f'{log}.0.jsonl'))
  train.train(create(**{'train.checkpoint_every': 2}), str(copy))
  mock.patch.stopall()
  assert {*met} == {*victim.MOMENTS, 'step'}
  told = launches.told(log, 0)
  steps = [x['step'] for x in told if 'batch' in x]
  assert steps[:5] == [16, 17, 18, 19, 20]
  assert [x['sealed'] for x in told if 'sealed' in x] == ['16', '18', '20']
  activities = [x['activity'] for x in told if 'activity' in x]
  assert {'compilation', 'saving step 16', 'saving step 20'} <= {*activities}
  trace = launches.trace(CASE, str(copy), log)
  assert trace.losses.keys() >= {(1, 'train'), (20, 'train'), (20, 'test')}
  assert trace.batches[0].keys() >= {16, 20}
  with open(copy / telemetry.METRICS, 'a') as file:
    file.write('{"step": 20, "split": "test", "loss": 1.0}\n')
  with pytest.raises(ValueError, match=r"\(20, 'test'\) is recorded twice"):
    launches.trace(CASE, str(copy), log)


@pytest.mark.parametrize(
  ('settings', 'ends'),
  [
    ({}, ['deleted', 'killed']),
    ({'sleep': True}, ['deleted', 'asleep']),
    ({'delay': 2.0}, ['deleted', 'killed after 2.0']),
  ],
)
def test_a_victim_ends_at_its_moment(monkeypatch, settings, ends):
  done = []
  timer = lambda seconds, function: types.SimpleNamespace(
    start=lambda: done.append(f'killed after {seconds}')
  )
  monkeypatch.setattr(victim, '_die', lambda: done.append('killed'))
  monkeypatch.setattr('time.sleep', lambda seconds: done.append('asleep'))
  monkeypatch.setattr('threading.Timer', timer)
  ending = victim._Ending(
    victim.Settings('', moment='delete', number=2, **settings)
  )
  delete = lambda: done.append('deleted')
  ending.at('save', delete)
  ending.at('delete', delete)
  assert done == []
  ending.at('delete', delete)
  assert done == ends
  ending.at('delete', delete)
  assert done == ends


@pytest.mark.slow
def test_killed_in_a_save_and_a_restore_a_run_ends_the_same(tmp_path):
  fewer = 'train.steps=24', 'train.eval_every=12', 'data.num_workers=0'
  case = dataclasses.replace(CASE, settings=(*CASE.settings, *fewer))
  undisturbed = kills.undisturbed(case, str(tmp_path))
  # This seed has the third save and the first look at what is there.
  seed, moments = 0.018, ['save', 'restore']
  outcome = kills.kill(case, undisturbed, seed, moments, str(tmp_path))
  assert (outcome.tried, outcome.lost) == (2, 0), outcome.note


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
  monkeypatch.setattr(hangs, 'run', loses)
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
    torture.main(['hangs', 'damage'], 0, 1.0, None)
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
  from tests.torture import preparing

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
  result = commands.run('tests.torture', *arguments)
  assert result.returncode == 1
  assert message in result.stderr
