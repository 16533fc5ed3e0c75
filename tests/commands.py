"""Runs commands like `python -m MODULE …`, but in this process.

A new process would take seconds to import JAX and other modules. If a command's
processes, logs or environment matter, `python` starts it as a process.
"""

import contextlib
import io
import runpy
import subprocess
import sys
from unittest import mock
import warnings

from absl import app, flags

from tests.conftest import ROOT

# Packages with commands; all other modules' flags belong to libraries.
COMMANDS = ('experiments', 'scripts', 'tests')


def _of_libraries():
  """Returns the flags that libraries have defined, by name."""
  return {
    flag.name: flag
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.partition('.')[0] not in COMMANDS
    for flag in defined
  }


@contextlib.contextmanager
def own_flags():
  """Hides the flags of commands, which may have equal names."""
  assert app.flags is flags  # Importing it has defined its flags.
  kept = dict(vars(flags.FLAGS))
  own = flags.FlagValues()
  for name, flag in _of_libraries().items():
    own[name] = flag
  vars(flags.FLAGS).update(vars(own))
  try:
    yield
  finally:
    found = _of_libraries()  # The command may have imported more libraries.
    vars(flags.FLAGS).update(kept)
    for name in found.keys() - set(flags.FLAGS):
      flags.FLAGS[name] = found[name]


def run(module, *arguments):
  """Runs a command to its end; its logs are among the test's logs.

  Returns:
    The status and the output, like `subprocess.run`.
  """
  output, errors = io.StringIO(), io.StringIO()
  status = 0
  with (
    own_flags(),
    mock.patch('experiments.logs.initialize'),
    mock.patch.dict('os.environ'),
    mock.patch.object(sys, 'argv', [module, *map(str, arguments)]),
    contextlib.redirect_stdout(output),
    contextlib.redirect_stderr(errors),
    warnings.catch_warnings(),
  ):
    # ml_collections warns when it loads a config, and runpy if the module has
    # been imported before.
    warnings.filterwarnings('ignore', r'the load_module\(\) method')
    warnings.filterwarnings('ignore', r'.* found in sys\.modules after import')
    try:
      runpy.run_module(module, run_name='__main__', alter_sys=True)
    except SystemExit as ending:
      status = ending.code or 0
      if isinstance(status, str):  # Python prints it, too.
        print(status, file=errors)
        status = 1
  return subprocess.CompletedProcess(
    [module, *arguments], status, output.getvalue(), errors.getvalue()
  )


def error(module, *arguments):
  """Runs a command that fails; returns the one line that it prints."""
  result = run(module, *arguments)
  assert (result.returncode, result.stdout) == (1, '')
  (line,) = result.stderr.splitlines()
  assert line.startswith('Error: ')
  return line


def python(*arguments, **options):
  """Runs Python as a process in the checkout, to its end."""
  return subprocess.run(
    [sys.executable, *arguments],
    **({'cwd': ROOT, 'capture_output': True, 'text': True} | options),
  )
