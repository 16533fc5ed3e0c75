"""The start of a run: compiled programs, traces, large pages, ports."""

import json
import os
import socket
import sys
import zlib

import jax
import pytest
from xprof.convert import raw_to_tool_data

from experiments import compilation_cache, host_memory, processes, train
from tests import commands


def start(own_cache, workdir, place='programs'):
  """Starts like a process; returns whether its program was in the cache."""
  jax.config.update('jax_compilation_cache_dir', None)
  own_cache.reset_cache()
  compilation_cache.use(str(workdir), place)
  hits = []
  listener = lambda name, **_: hits.append(name.endswith('/cache_hits'))
  jax.monitoring.register_event_listener(listener)
  jax.jit(lambda x: 2 * x)(1.0)
  jax.monitoring.unregister_event_listener(listener)
  return any(hits)


def test_programs_are_kept_where_the_config_says(tmp_path, own_cache):
  elsewhere = tmp_path / 'elsewhere'
  assert not start(own_cache, tmp_path / 'run', str(elsewhere))
  assert any(elsewhere.rglob('jit__lambda-*-cache'))
  # Another run finds the program there.
  assert start(own_cache, tmp_path / 'other', str(elsewhere))
  assert not (tmp_path / 'other').exists()
  # In the run's own directory, or nowhere.
  assert not start(own_cache, tmp_path / 'run')
  assert any(tmp_path.glob('run/programs/*/jit__lambda-*-cache'))
  assert not start(own_cache, tmp_path / 'none', None)
  assert not (tmp_path / 'none').exists()


def test_where_the_user_says_comes_first(tmp_path, own_cache):
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'users'))
  compilation_cache.use(str(tmp_path / 'run'), 'programs')
  jax.jit(lambda x: 3 * x)(1.0)
  assert jax.config.values['jax_compilation_cache_dir'].endswith('users')
  assert not (tmp_path / 'run').exists()


def test_a_program_that_a_kill_cut_off_is_compiled_again(
  tmp_path, own_cache, caplog
):
  assert not start(own_cache, tmp_path)
  (program,) = tmp_path.glob('programs/*/jit__lambda-*-cache')
  whole = program.read_bytes()
  program.write_bytes(whole[: len(whole) // 2])
  assert not start(own_cache, tmp_path)
  assert f'{program} is damaged, and removed.' in caplog.text
  zlib.decompress(program.read_bytes())  # It is whole again.
  assert start(own_cache, tmp_path)


@pytest.mark.slow
def test_a_trace_of_two_steps_opens_in_xprof(trained, tmp_path, change, caplog):
  run = change(trained[0], **{'train.profile_steps': '4:2'})
  train.train(run, str(tmp_path))
  assert f'The trace is in {tmp_path}/plugins/profile.' in caplog.text
  (trace,) = tmp_path.glob('plugins/profile/*/*.xplane.pb')
  assert 'overview_page' in raw_to_tool_data.xspace_to_tool_names([str(trace)])
  data, _ = raw_to_tool_data.xspace_to_tool_data(
    [str(trace)], 'trace_viewer@', {}
  )
  events = json.loads(data)['traceEvents']
  durations = {e['name']: e['dur'] for e in events if e.get('ph') == 'X'}
  steps = {name for name in durations if name.startswith('train ')}
  assert steps == {'train 4', 'train 5'}
  assert all(durations[name] > 0 for name in steps)
  assert any('train_step' in name for name in durations)  # The program itself.


def test_a_run_has_large_pages_unless_the_user_set_glibc(monkeypatch):
  monkeypatch.setattr(sys, 'platform', 'linux')
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  assert host_memory.ask_for_large_pages()
  assert os.environ['GLIBC_TUNABLES'] == 'glibc.malloc.hugetlb=1'
  assert not host_memory.ask_for_large_pages()
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.arena_max=2')
  assert not host_memory.ask_for_large_pages()
  monkeypatch.delenv('GLIBC_TUNABLES')
  monkeypatch.setattr(sys, 'platform', 'darwin')
  assert not host_memory.ask_for_large_pages()


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux')
def test_a_process_starts_anew_with_the_same_arguments():
  code = (
    'import os, sys; from experiments import host_memory;'
    ' host_memory.restart_with_large_pages();'
    ' print(os.environ["GLIBC_TUNABLES"], sys.argv[1:])'
  )
  environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  result = commands.python('-c', code, 'one', 'two words', env=environment)
  assert result.stdout == "glibc.malloc.hugetlb=1 ['one', 'two words']\n"


def test_no_other_run_is_given_the_port_that_a_run_has_chosen(monkeypatch):
  """Another run listens as JAX does, with the option to share a port."""
  joined = []

  def no_cluster():
    raise ValueError('coordinator_address should be defined.')

  def join_after_another(coordinator, *numbers):
    host, _, port = coordinator.rpartition(':')
    with socket.socket() as other:
      other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      with pytest.raises(OSError, match='Address already in use'):
        other.bind((host, int(port)))
    joined.append(numbers)

  monkeypatch.setattr(jax.distributed, 'initialize', no_cluster)
  monkeypatch.setattr(processes, '_join_at', join_after_another)
  processes.join()
  assert joined == [(1, 0)]
