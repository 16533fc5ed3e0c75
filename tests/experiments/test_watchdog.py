"""Processes that hang."""

import math
import sys

import pytest

from experiments import telemetry, train, watchdog
from tests import commands
from tests.experiments import processes
from tests.experiments.smoke import losses, starts

SLEEP = """
import {library}, time
from experiments import watchdog

def stand_still():
  {hang}

limits = watchdog.Limits(step=0.1, compilation=0.0, restoring=1.0)
with watchdog.watching(limits, print):
  watchdog.begin('step 3')
  stand_still()
"""


def test_a_process_that_stands_still_ends_and_says_where():
  code = SLEEP.format(library='os', hang='time.sleep(1000)')
  result = commands.python('-c', code, timeout=300)
  assert result.returncode == watchdog.STATUS == 75
  assert 'in stand_still' in result.stderr
  assert 'Error: The watchdog ended the process: step 3 has' in result.stderr
  assert 'and may take 0.1. Run the same' in result.stderr
  assert result.stdout.startswith('The watchdog ended the process: step 3')


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='Linux')
def test_one_in_which_not_even_python_runs_ends_too():
  code = SLEEP.format(library='ctypes', hang='ctypes.PyDLL(None).sleep(1000)')
  result = commands.python('-c', code, timeout=300)
  assert result.returncode == 1
  assert 'in stand_still' in result.stderr


def test_compiling_and_restoring_have_limits_of_their_own():
  limits = watchdog.Limits(step=1.0, compilation=2.0, restoring=3.0)
  assert [
    limits.of(x) for x in ('step 5', 'compilation', 'restoring', 'start')
  ] == [1.0, 2.0, 3.0, 3.0]
  for_ever = watchdog.Limits(step=0.0, compilation=0.0, restoring=0.0)
  assert for_ever.of('step 5') == for_ever.of('start') == math.inf


def test_the_first_call_may_take_as_long_as_a_compilation(monkeypatch):
  begun = []
  monkeypatch.setattr(watchdog, 'begin', begun.append)
  double = watchdog.compiles_first(lambda x: 2 * x)
  assert (double(3), double(4)) == (6, 8)
  assert begun == ['compilation']


# The data of one step never comes.
STUCK = """
import time
from absl import app
from experiments import pipeline, run

batches = pipeline.train_batches

def stuck(*arguments, **settings):
  for number, batch in enumerate(batches(*arguments, **settings)):
    if number == 12:
      time.sleep(10000)
    yield batch

pipeline.train_batches = stuck
app.run(run.main, flags_parser=run.parse_flags)
"""


@pytest.mark.slow
def test_a_run_without_data_ends_and_goes_on(trained, tmp_path):
  status, _, errors = processes.run(
    tmp_path, '--config.train.watchdog_seconds=0.5', code=STUCK
  )
  assert status == watchdog.STATUS, errors
  what = 'waiting for the data of step 13 has taken'
  assert what in errors
  assert 'in stuck' in errors
  (ending,) = telemetry.read_records(str(tmp_path), telemetry.ENDINGS)
  assert what in ending['reason']
  train.train(trained[0], str(tmp_path))
  assert starts(tmp_path)[1] in (5, 10)
  assert losses(tmp_path) == losses(trained[1])
