"""Runs in processes of their own, and their output."""

import os
import subprocess
import sys

from tests.conftest import ROOT


def start(workdir, *arguments, code=None, python=sys.executable, **environment):
  """Starts a smoke run as users do, or through code that changes it."""
  command = ('-m', 'experiments.run') if code is None else ('-c', code)
  return subprocess.Popen(
    [
      *(python, *command),
      *('--config=configs/digits.py:smoke', f'--workdir={workdir}'),
      *arguments,
    ],
    cwd=ROOT,
    env=os.environ | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run(workdir, *arguments, **options):
  """Runs a smoke run; returns its exit status, output and errors."""
  process = start(workdir, *arguments, **options)
  output, errors = process.communicate(timeout=300)
  return process.returncode, output, errors
