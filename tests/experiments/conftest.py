"""Fixtures of the laboratory's tests: shared runs, and the command."""

import functools
import signal

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache
import pytest

from experiments import processes
from tests import commands
from tests.experiments.smoke import create


@pytest.fixture(scope='session')
def parallel():
  """The smoke run on four devices, with data, model and micro-batches split."""
  return create(4, **{'train.accumulate': 2, 'train.model_parallel': 2})


@pytest.fixture
def change(monkeypatch):
  """Sets config keys of a run for one test; nothing compiled reads them."""

  def change(run, **keys):
    for key, value in keys.items():
      section, _, name = key.partition('.')
      monkeypatch.setitem(run.config[section], name, value)
    return run

  return change


@pytest.fixture
def command(monkeypatch):
  """Runs `python -m experiments.run` in this process, on one device."""
  device = jax.devices()[:1]
  handler = signal.getsignal(signal.SIGINT)
  monkeypatch.setattr(processes, 'join', lambda *_: None)  # JAX runs already.
  monkeypatch.setattr(jax, 'devices', lambda *_: device)
  monkeypatch.setenv('GLIBC_TUNABLES', '')  # Or it would start anew.
  yield functools.partial(commands.run, 'experiments.run')
  signal.signal(signal.SIGINT, handler)


@pytest.fixture
def own_cache():
  """Turns the compilation cache off until the test sets one."""
  keys = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
    'jax_persistent_cache_min_entry_size_bytes',
  )
  before = {key: jax.config.values[key] for key in keys}
  jax.config.update('jax_compilation_cache_dir', None)
  jax_cache.reset_cache()
  yield jax_cache
  for key, value in before.items():
    jax.config.update(key, value)
  jax_cache.reset_cache()
