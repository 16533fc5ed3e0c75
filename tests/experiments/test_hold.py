"""The second launch in a workdir ends and changes nothing."""

import json
import os
import threading
import types
from unittest import mock

import pytest

from experiments import hold, storage, train
from tests.experiments.smoke import create

ELSEWHERE = {'machine': 'another one', 'host': 'node17', 'process': 4242}


@pytest.fixture(autouse=True)
def sleep(monkeypatch):
  """Replaces `time.sleep`, so that no test waits."""
  replaced = mock.Mock()
  monkeypatch.setattr(hold, 'time', types.SimpleNamespace(sleep=replaced))
  return replaced


def left_by(workdir, **others):
  """Writes a hold that another process has left."""
  with hold.holding(str(workdir)):
    record = json.loads((workdir / hold.FILE).read_text())
  record |= {'token': 'another', **others}
  (workdir / hold.FILE).write_text(json.dumps(record))


def test_a_run_holds_its_workdir_until_it_ends_or_fails(tmp_path):
  with hold.holding(str(tmp_path)):
    message = f'{tmp_path} is in use: process {os.getpid()} on'
    with pytest.raises(hold.WorkdirInUseError, match=message):
      train.train(create(), str(tmp_path))
    assert [x.name for x in tmp_path.iterdir()] == [hold.FILE]
  with pytest.raises(KeyError), hold.holding(str(tmp_path)):
    raise KeyError
  assert not any(tmp_path.iterdir())
  with hold.holding(str(tmp_path)):
    pass


@pytest.mark.parametrize(
  'change',
  [
    {'process': 2**22 + 1},  # Linux has no such number.
    {'started': 0.0},  # The process number was reused.
  ],
)
def test_a_hold_of_a_dead_process_is_taken_over_at_once(
  change, tmp_path, monkeypatch
):
  left_by(tmp_path, **change)
  monkeypatch.setattr(hold, 'LEASE', float('nan'))  # Waiting for it would fail.
  with hold.holding(str(tmp_path)):
    found = json.loads((tmp_path / hold.FILE).read_text())
    assert found['process'] == os.getpid()


def test_a_holder_elsewhere_that_renews_its_hold_is_not_disturbed(
  tmp_path, sleep
):
  left_by(tmp_path, **ELSEWHERE)

  def renew_it_the_second_time(seconds):
    assert seconds == hold.RENEWAL
    if sleep.call_count == 2:
      record = json.loads((tmp_path / hold.FILE).read_text())
      record['renewals'] += 1
      (tmp_path / hold.FILE).write_text(json.dumps(record))

  sleep.side_effect = renew_it_the_second_time
  message = 'process 4242 on node17 has trained there since'
  with pytest.raises(hold.WorkdirInUseError, match=message):
    train.train(create(), str(tmp_path))
  assert sleep.call_count == 2


@pytest.mark.parametrize('text', ['', '{"token": "cut off'])
def test_a_hold_that_cannot_be_read_is_no_obstacle(text, tmp_path):
  (tmp_path / hold.FILE).write_text(text)
  with hold.holding(str(tmp_path)):
    assert json.loads((tmp_path / hold.FILE).read_text())['token']


@pytest.mark.parametrize('place', ['disk', 'store'])
def test_a_hold_from_elsewhere_that_nobody_renews_runs_out(
  place, request, tmp_path, sleep
):
  folder = storage.path(tmp_path)
  if place == 'store':
    folder = storage.path(request.getfixturevalue('store').url('held'))
  path = folder / hold.FILE
  with hold.holding(str(folder)):
    record = json.loads(path.read_text())
  storage.write(path, json.dumps(record | ELSEWHERE | {'token': 'another'}))
  with hold.holding(str(folder)):
    waited = sum(call.args[0] for call in sleep.call_args_list)
    assert waited == hold.LEASE + hold.SETTLING
    with pytest.raises(hold.WorkdirInUseError, match=str(os.getpid())):
      hold.holding(str(folder)).__enter__()
  assert not path.exists()


def test_of_two_that_take_over_at_once_the_last_to_write_goes_on(
  tmp_path, sleep
):
  left_by(tmp_path, started=0.0)
  record = json.loads((tmp_path / hold.FILE).read_text())

  def write_last(seconds):
    (tmp_path / hold.FILE).write_text(json.dumps(record))

  sleep.side_effect = write_last
  with pytest.raises(hold.WorkdirInUseError), hold.holding(str(tmp_path)):
    pass


def test_a_holder_that_has_lost_its_hold_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(hold, 'RENEWAL', 0.01)
  ended = threading.Event()
  said = []

  def end(reason):
    said.append(reason)
    ended.set()

  monkeypatch.setattr(hold, '_end', end)
  with hold.holding(str(tmp_path)):
    path = tmp_path / hold.FILE
    while json.loads(path.read_text())['renewals'] < 2:
      pass
    path.unlink()  # Whoever removes it, it is written again.
    while not path.exists():
      pass
    assert not said
    record = {**json.loads(path.read_text()), 'token': 'another'}
    storage.write(storage.path(path), json.dumps(record))
    assert ended.wait(60)
  assert f'another launch has taken {tmp_path}.' in said[0]
  assert path.exists()  # It belongs to the other launch.
