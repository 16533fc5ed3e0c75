"""Torture finds what is lost, and passes what is not."""

import dataclasses
import os
import pathlib
import random
import shutil
import signal

import pytest

from experiments import telemetry
from tests import commands
from tests.torture import __main__ as torture
from tests.torture import (
  cases,
  damage,
  hangs,
  kills,
  runs,
  signals,
  soak,
  victim,
)
from tests.torture.outcome import Outcome


@pytest.mark.slow
def test_each_kind_of_damage_is_passed_over(tmp_path):
  outcomes = list(damage.run(1, 0.004, str(tmp_path)))
  assert [outcome.tried for outcome in outcomes] == [2, 1, 1]
  assert [outcome.notes for outcome in outcomes] == [[], [], []]
  assert [path.name for path in tmp_path.iterdir()] == ['original']


@pytest.mark.slow
def test_damage_that_goes_unseen_is_lost(workdir, tmp_path, monkeypatch):
  copy = lambda run, folder: shutil.copytree(workdir, folder)
  monkeypatch.setattr(damage.train, 'train', copy)
  monkeypatch.setattr('experiments.seal.find_damage', lambda directory: None)
  # A bit that spoils no restore: where one fails, Orbax leaves coroutines
  # behind, which are warned of whenever they are collected.
  flip = lambda path, rng: f'a bit of {path.name} flipped'
  monkeypatch.setattr(damage, '_flip', flip)
  flips = next(damage.run(0, 0.004, str(tmp_path)))
  assert (flips.tried, flips.survived, flips.lost) == (2, 0, 2)
  assert ' flipped, ValueError: other arrays were restored' in flips.notes[0]


CASE = cases.digit_case()
# What such a run left, as far as it is compared.
TRACE = runs.Trace(
  losses={(1, 'train'): {'loss': 2.0}, (2, 'test'): {'loss': 1.0}},
  batches=[{1: {'a'}, 2: {'b'}}],
  state='c',
)


@pytest.mark.parametrize(
  ('changed', 'what'),
  [
    ({'losses': {**TRACE.losses, (2, 'test'): {'loss': 0.0}}}, "(2, 'test')"),
    ({'batches': [{1: {'a'}, 2: {'b', 'd'}}]}, 'step 2 at rank 0'),
    ({'batches': [{1: {'a'}}]}, 'step 2 at rank 0'),
    ({'state': ''}, 'the last states'),
  ],
)
def test_a_run_that_ends_otherwise_differs(changed, what):
  assert TRACE.difference(TRACE) == ''
  assert what in TRACE.difference(dataclasses.replace(TRACE, **changed))


@pytest.fixture
def disturb(monkeypatch, tmp_path):
  """Disturbs runs, whose traces are made up, until there are three faults."""
  monkeypatch.setattr(runs.Run, 'finish', lambda run: TRACE)

  def disturb(disturb_once, expected=TRACE):
    wanted = {'hot': 2, 'cold': 1}
    outcomes = runs.disturb(
      'test', CASE, expected, wanted, disturb_once, str(tmp_path)
    )
    assert [outcome.test for outcome in outcomes] == ['test: hot', 'test: cold']
    return outcomes

  return disturb


def one_fault(run, kinds):
  """A run survives one fault, and is over in the next launch."""
  run.launches += 1
  run.is_over = run.launches == 2
  return [] if run.is_over else kinds[:1]


def test_faults_that_runs_survive_are_counted(disturb, tmp_path):
  outcomes = disturb(one_fault)
  assert [(x.tried, x.survived, x.lost) for x in outcomes] == [
    *((2, 2, 0), (1, 1, 0))
  ]
  assert not list(tmp_path.iterdir())


def fails(run, kinds):
  raise RuntimeError('status 1')


def is_over(run, kinds):
  run.is_over = True
  return []


@pytest.mark.parametrize(
  ('disturb_once', 'state', 'note'),
  [
    (one_fault, 'd', 'the last states differ'),
    (fails, 'c', 'status 1'),
    (is_over, 'c', "5 runs in a row end before 'hot'"),
  ],
)
def test_faults_that_runs_do_not_survive_are_lost(
  disturb, tmp_path, disturb_once, state, note
):
  outcomes = disturb(disturb_once, dataclasses.replace(TRACE, state=state))
  assert [(x.tried, x.survived, x.lost) for x in outcomes] == [
    *((2, 0, 2), (1, 0, 1))
  ]
  assert note in outcomes[0].notes[0]
  assert list(tmp_path.iterdir())  # To be looked at.


def test_what_hangs_has_to_be_gone_in_time():
  assert hangs.check([75, 75], 29.0, limit=20.0) == 9.0
  for statuses, seconds in (([75, 75], 31.0), ([75, None], 9.0)):
    with pytest.raises(RuntimeError, match=f'After {seconds:.0f} s'):
      hangs.check(statuses, seconds, limit=20.0)


def lines(*moments):
  """Makes the log of a process from pairs of a moment and its time."""
  return [
    {'moment': moment.split()[0], 'what': moment, 'time': time}
    for moment, time in moments
  ]


SENT = ('fault', 7.5)


@pytest.mark.parametrize(
  ('moments', 'statuses', 'expected'),
  [
    (['step', 'evaluation', 'save'], [143, 143], ('elsewhere', 2.0)),
    (['restore', 'evaluation'], [143, 143], ('elsewhere', 2.0)),
    (['step', 'evaluation'], [143, 143], 'Nothing was saved'),
    (['save'], [143, 1], r'The statuses are \[143, 1\]'),
    (['step'], [0, 0], ('', 0.0)),
  ],
)
def test_what_a_signal_may_come_to(moments, statuses, expected):
  logged = lines(SENT, *((moment, 8.0) for moment in moments))
  judge = lambda: signals.judge([logged, logged], statuses, 0, 10.0)
  if isinstance(expected, str):
    with pytest.raises(RuntimeError, match=expected):
      judge()
  else:
    assert judge() == expected


@pytest.mark.parametrize('statuses', [[0, 0], [143, 143]])
def test_a_signal_that_was_not_heard_while_steps_were_left_is_lost(statuses):
  def judge(*times):
    # It was sent in a step that compiled until 30.0.
    steps = [('step', time) for time in (1.0, 2.0, *times)]
    logged = lines(*steps, ('fault', 20.5), ('commit 3', 21.0), ('save', 39.0))
    return signals.judge([logged, logged], statuses, 1, 40.0)

  with pytest.raises(RuntimeError, match=r'was not heard for 5\.3 s'):
    judge(30.0, 35.1, 35.2, 35.3)
  for in_time in ([30.0, 34.9, 35.1, 35.2], [30.0], []):
    kind, _ = judge(*in_time)
    assert kind == ('' if statuses == [0, 0] else 'elsewhere')


def test_signals_during_a_save_are_told_from_others():
  for sent, kind in (
    *((1.9, 'elsewhere'), (2.0, 'during a save'), (2.9, 'during a save')),
    *((3.2, 'elsewhere'), (4.5, 'during a save')),
  ):
    logged = lines(
      *(('save 2', 2.0), ('seal 2', 3.0), ('step', 3.5), ('save 3', 4.0))
    )
    logged[1]['what'] = '2'
    logged += lines(('fault', sent))
    assert signals.judge([logged], [143], 0, 5.0)[0] == kind


def test_a_soak_sees_what_grows():
  steps = [float(x) for x in range(1000)]

  def sample(time, **more):
    return soak.Sample(
      time, **{'memory': 2**30, 'files': 9, 'threads': 9, **more}
    )

  begins = [sample(x) for x in range(0, 1000, 10)]
  steady = soak.growth(begins, steps)
  assert all(is_good for is_good, _ in steady.values())
  grown = [sample(x, memory=2**30 + x * 2**17) for x in range(0, 1000, 10)]
  assert soak.growth(grown, steps)['memory'] == (
    False,
    '1042 to 1143 MiB, +9.7 %',
  )
  # Threads may be started for longer.
  for name, first in (('files', 10), ('threads', 11)):
    leak = [sample(x, **{name: 9 + x // 100}) for x in range(0, 1000, 10)]
    assert soak.growth(leak, steps)[name] == (False, f'{first} to 18')
  # What it takes as it starts, and at the end, does not count.
  ends = [sample(50, files=1), *begins[10:], sample(1000, files=99)]
  assert soak.growth(ends, steps) == steady
  pool = [sample(x, threads=8 + (x >= 200)) for x in range(0, 1000, 10)]
  assert soak.growth(pool, steps) == steady
  # Nor does a single look, as at something that is just replaced.
  looks = [sample(x, files=8 if x == 120 else 9) for x in range(0, 1000, 10)]
  assert soak.growth(looks, steps) == steady
  assert not any(is_good for is_good, _ in soak.growth([], steps).values())


@pytest.mark.slow
def test_a_run_that_cannot_go_on_is_named(tmp_path):
  case = dataclasses.replace(CASE, settings=('data.num_workers=-1',))
  run = runs.Run(case, str(tmp_path))
  with pytest.raises(RuntimeError, match=r'cannot go on: statuses \[1\]'):
    run.finish()
  with pytest.raises(RuntimeError, match=r'status 1, see .*/launch-002\.0\.t'):
    kills.kill_once(random.Random(0), run, ['save'])
  said = pathlib.Path(run.place, 'launch-001.0.txt').read_text()
  assert 'data.num_workers=-1' in said


@pytest.mark.slow
def test_killed_in_a_save_and_a_restore_a_run_ends_the_same(tmp_path):
  fewer = 'train.steps=24', 'train.eval_every=12', 'data.num_workers=0'
  case = dataclasses.replace(CASE, settings=(*CASE.settings, *fewer))
  expected = runs.Run(case, str(tmp_path)).finish()
  run = runs.Run(case, str(tmp_path))
  for moment, number in (('save', 3), ('restore', 1)):
    with run.launch({0: {'moment': moment, 'number': number}}) as launch:
      assert launch.wait() == [-signal.SIGKILL]
      assert launch.fault_time() is not None
  found = run.finish()
  assert found.difference(expected) == ''
  # All moments to aim at were met.
  moments = {line['moment'] for line in run.lines()}
  assert moments >= {
    *victim.ACTIVITIES.values(),
    *('start', 'batch', 'commit', 'seal', 'delete', 'other'),
  }
  assert found.losses.keys() >= {(1, 'train'), (24, 'train'), (24, 'test')}
  assert found.batches[0].keys() >= {*range(1, 25)}
  with open(f'{run.workdir}/{telemetry.METRICS}', 'a') as file:
    file.write('{"step": 24, "split": "test", "loss": 1.0}\n')
  with pytest.raises(ValueError, match=r"\(24, 'test'\) is recorded twice"):
    run.finish()


def survives(seed, scale, folder):
  pathlib.Path(folder, 'file').touch()
  yield Outcome('one', round(10 * scale), round(10 * scale), [f'seed {seed}'])


def loses(seed, scale, folder):
  yield Outcome('another', 3, 2, [f'{folder}: a|b\nc'])


@pytest.fixture
def fakes(monkeypatch, tmp_path):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  monkeypatch.setitem(torture.TESTS, 'damage', survives)
  monkeypatch.setitem(torture.TESTS, 'hangs', loses)
  monkeypatch.setenv('JAX_PLATFORMS', os.environ['JAX_PLATFORMS'])
  return tmp_path


def test_a_table_tells_what_survived_and_nothing_is_left(fakes, capsys):
  torture.main(['damage'], 5, 0.5, None)
  assert capsys.readouterr().out == (
    '| Test | Tried | Survived | Lost | Note |\n'
    '| --- | ---: | ---: | ---: | --- |\n'
    '| one | 5 | 5 | 0 | seed 5 |\n'
  )
  assert list(fakes.iterdir()) == []


@pytest.mark.parametrize('workdir', [None, 'mine/own'])
def test_where_something_is_lost_the_folder_is_kept_and_named(fakes, workdir):
  folder = workdir and str(fakes / workdir)
  with pytest.raises(SystemExit, match=f'Something was lost: see {fakes}/'):
    torture.main(['hangs', 'damage'], 0, 1.0, folder)
  assert len(list(fakes.glob('**/damage-*/file'))) == 1


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
