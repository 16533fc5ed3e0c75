"""A store that fails delays its users and does not end them."""

import threading
import time

import aiohttp
import pytest

from experiments import (
  google_storage,
  seal,
  storage,
  telemetry,
)
from tests.conftest import ROOT
from tests.experiments.processes import start
from tests.torture import faulty_proxy


@pytest.fixture
def proxy(store, monkeypatch):
  """The store behind a proxy that can fail, for this process only."""
  with faulty_proxy.running(store.address) as running:
    for name, value in running.environment.items():
      monkeypatch.setenv(name, value)
    monkeypatch.setattr(google_storage, 'FIRST_PAUSE', 0.01)
    yield running


@pytest.mark.parametrize('fault', ['503', '429', 'hang', 'reset'])
def test_what_passes_is_waited_for(proxy, caplog, monkeypatch, fault):
  if fault == 'hang':
    monkeypatch.setattr(
      google_storage, 'TIMEOUT', aiohttp.ClientTimeout(sock_read=0.5)
    )
  path = storage.path(proxy.url(f'waited/{fault}'))
  storage.write(path, 'before')
  if fault == 'hang':
    proxy.hang()
  elif fault == 'reset':
    proxy.reset()
  else:
    proxy.fail(int(fault))
  wrote = threading.Thread(target=storage.write, args=(path, 'after'))
  wrote.start()
  assert proxy.wait_for(4)
  proxy.heal()
  wrote.join()
  assert path.read_text() == 'after'
  said = [x.getMessage() for x in caplog.records if 'Trying' in x.getMessage()]
  assert said
  assert all(x.startswith('gs://runs') for x in said)


def test_nobody_waits_for_ever(proxy, monkeypatch):
  path = storage.path(proxy.url('ever/a'))
  storage.write(path, 'before')
  monkeypatch.setattr(google_storage, 'PATIENCE', 0.05)
  proxy.refuse()
  for ask in (path.exists, path.is_dir, path.read_text):
    with pytest.raises(OSError, match=r'gs://runs.*: no answer in '):
      ask()
  with pytest.raises(OSError, match=f'{path} cannot be written: gs://runs: no'):
    storage.write(path, 'after')
  monkeypatch.setattr(google_storage, 'PATIENCE', 900)
  with pytest.raises(
    OSError, match='no answer'
  ):  # At once, as the process ends.
    path.read_text()
  proxy.heal()
  assert path.read_text() == 'before'


def test_a_refusal_is_not_waited_for(proxy):
  path = storage.path(proxy.url('refused/a'))
  proxy.fail(403)
  with pytest.raises(OSError, match='Forbidden'):
    path.exists()
  proxy.fail(401)
  with pytest.raises(PermissionError, match='gs://runs'):
    path.exists()


@pytest.mark.slow
def test_a_run_outlasts_a_store_that_fails(store):
  with faulty_proxy.running(store.address) as proxy:
    workdir = proxy.url('outlasts')
    process = start(
      workdir,
      *('--config.train.steps=4', '--config.train.checkpoint_every=2'),
      **proxy.environment,
    )
    launches = storage.path(store.url('outlasts')) / telemetry.LAUNCHES
    while process.poll() is None and not launches.exists():
      time.sleep(0.05)
    proxy.fail(503)
    assert proxy.wait_for(3)
    proxy.heal()
    _, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  assert 'Traceback' not in errors
  folder = launches.parent
  assert seal.find_damage(folder / 'checkpoints' / '4') is None
  assert not (ROOT / 'gs:').exists()
