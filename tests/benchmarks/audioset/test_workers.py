"""A job that dies, hangs or raises does no harm to the others."""

import os
import signal
import subprocess
import sys
import time

import pytest

from experiments.benchmarks.audioset.workers import Job, Lost, Workers
from tests.conftest import ROOT


def do(argument):
  if argument == 'die':
    os.kill(os.getpid(), signal.SIGSEGV)
  if argument == 'exit':
    os._exit(3)
  if argument == 'hang':
    time.sleep(60)
  while argument == 'spin':
    pass
  if argument == 'raise':
    raise ValueError('wrong')
  if argument == 'fill':
    return len(bytearray(2**40))
  return argument, os.getpid()


@pytest.mark.slow
def test_workers_that_die_are_replaced():
  limits = {'spin': {'seconds': 1.0}, 'hang': {'patience': 0.5}}
  arguments = [0, 'die', 1, 'hang', 2, 'spin', 3, 'exit', 4]
  jobs = (Job(do, x, **limits.get(x, {})) for x in arguments)
  results = {}
  with Workers(2, __name__) as workers:
    for job, result in workers.run(jobs):
      results[job.argument] = result
      if job.argument == 4:
        workers.submit(Job(do, 'later'))
  assert results.pop('die') == Lost('Its process died (SIGSEGV).')
  assert results.pop('exit') == Lost('Its process died (status 3).')
  assert results.pop('hang') == Lost('It hung for 0.5 s.')
  assert results.pop('spin') == Lost('It took more than 1 s.')
  assert {k: v[0] for k, v in results.items()} == {
    x: x for x in [0, 1, 2, 3, 4, 'later']
  }


@pytest.mark.parametrize(
  ('argument', 'error'), [('raise', ValueError), ('fill', MemoryError)]
)
def test_errors_are_the_callers(argument, error):
  with Workers(1, __name__) as workers, pytest.raises(error):
    list(workers.run(iter([Job(do, argument)])))


def be_killed(path):
  """Twice, or always where there is no such file to count in."""
  with open(path, 'a') as file:
    file.write('x')
  if os.path.getsize(path) < 3 or path == os.devnull:
    os.kill(os.getpid(), signal.SIGKILL)
  return 'done'


@pytest.mark.slow
def test_who_is_killed_from_outside_is_tried_again(tmp_path):
  jobs = [Job(be_killed, path) for path in (str(tmp_path / 'x'), os.devnull)]
  with Workers(1, __name__) as workers:
    results = {job.argument: x for job, x in workers.run(iter(jobs))}
  killed = Lost('Its process died (SIGKILL).')
  assert results == {str(tmp_path / 'x'): 'done', os.devnull: killed}


def test_what_a_worker_imports_is_without_jax():
  """Nor does the command that starts it: a worker is often started anew."""
  modules = 'scripts.prepare_audioset, experiments.benchmarks.audioset.files'
  check = f"import sys, {modules}; assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, '-c', check], cwd=ROOT, check=True)


@pytest.mark.slow
def test_workers_end_with_the_context():
  with Workers(2, __name__) as workers:
    jobs = (Job(do, i) for i in range(20))
    pids = {result[1] for _, result in workers.run(jobs)}
  for pid in pids:
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)
