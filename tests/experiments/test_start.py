"""What a run brings to its start, and what it leaves for the next one."""

import json
import os
import signal
import subprocess
import sys
import zlib

import pytest
from xprof.convert import raw_to_tool_data

from experiments import host_memory
from tests.conftest import ROOT

RUN = (sys.executable, '-m', 'experiments.run')
SMOKE = '--config=configs/digits.py:smoke'
LONG = '--config.train.steps=100000', '--config.train.eval_every=4'
# A user's, without the tests' own cache; JAX's compiler tells what it does.
ENVIRONMENT = {
  **{k: v for k, v in os.environ.items() if 'CACHE' not in k},
  'JAX_DEBUG_LOG_MODULES': 'jax._src.compiler',
}


def run(workdir, *arguments, **environment):
  """Returns what a run of 20 steps logs."""
  result = subprocess.run(
    [*RUN, SMOKE, f'--workdir={workdir}', *arguments],
    cwd=ROOT,
    env=ENVIRONMENT | environment,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 0, result.stderr
  return result.stderr


def run_until_killed(workdir, evaluations):
  """Returns what a long run logs until it has evaluated so many times."""
  process = subprocess.Popen(
    [*RUN, SMOKE, f'--workdir={workdir}', *LONG],
    cwd=ROOT,
    env=ENVIRONMENT,
    stderr=subprocess.PIPE,
    text=True,
  )
  log = []
  for line in process.stderr:
    log.append(line)
    evaluations -= ': test top1' in line
    if evaluations == 0:
      break
  process.send_signal(signal.SIGKILL)
  process.communicate()
  return ''.join(log)


def test_after_a_kill_the_next_start_compiles_nothing(tmp_path):
  log = run_until_killed(tmp_path, 3)
  assert "CACHE MISS for 'jit_train_step'" in log
  log = run_until_killed(tmp_path, 2)
  assert 'Going on from the checkpoint' in log
  assert "cache hit for 'jit_train_step'" in log
  assert "cache hit for 'jit_eval_step'" in log
  assert 'CACHE MISS' not in log
  # What a kill cut off is compiled again, and then kept again.
  (program,) = tmp_path.glob('compilation_cache/*/jit_train_step-*-cache')
  program.write_bytes(program.read_bytes()[:1000])
  log = run_until_killed(tmp_path, 1)
  assert f'{program} is damaged, and removed.' in log
  assert log.count('CACHE MISS') == 1
  zlib.decompress(program.read_bytes())


def test_the_cache_is_where_the_config_or_the_user_says(tmp_path):
  elsewhere, users = tmp_path / 'elsewhere', tmp_path / 'users'
  place = f'--config.train.compilation_cache={elsewhere}'
  log = run(tmp_path / 'run', place, '--config.train.steps=1')
  assert 'CACHE MISS' in log
  assert any(elsewhere.rglob('jit_train_step-*-cache'))
  # The same program in another run's directory is compiled already.
  log = run(tmp_path / 'other', place, '--config.train.steps=1')
  assert 'CACHE MISS' not in log
  assert not (tmp_path / 'other/compilation_cache').exists()
  run(
    tmp_path / 'third',
    '--config.train.steps=1',
    JAX_COMPILATION_CACHE_DIR=str(users),
  )
  assert any(users.iterdir())
  assert not (tmp_path / 'third/compilation_cache').exists()


def test_a_trace_of_two_steps_opens_in_xprof(tmp_path):
  log = run(tmp_path, '--config.train.profile_steps=4:2')
  assert f'The trace is in {tmp_path}/plugins/profile.' in log
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
  result = subprocess.run(
    [sys.executable, '-c', code, 'one', 'two words'],
    cwd=ROOT,
    env={k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stdout == "glibc.malloc.hugetlb=1 ['one', 'two words']\n"


# What another run does that starts at the same time: asks for a free port, and
# listens there as JAX does, beside whoever has the same option.
JOINS = """
import socket
import jax
from experiments import run

def join_after_another(coordinator, *numbers):
  host, _, port = coordinator.rpartition(':')
  with socket.socket() as other:
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      other.bind((host, int(port)))
      print('taken')
    except OSError as error:
      print(error.strerror)
  join(coordinator, *numbers)

join, run.join = run.join, join_after_another
run.flags.FLAGS.mark_as_parsed()
run.initialize_distributed()
print(jax.process_count())
"""


def test_no_other_run_is_given_the_port_that_a_run_has_chosen():
  result = subprocess.run(
    [sys.executable, '-c', JOINS],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stdout == 'Address already in use\n1\n'
