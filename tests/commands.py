"""Commands as `python -m MODULE …` starts them, but in this process.

A process of its own takes seconds to import JAX and all else. Where a command's
own processes, logs or environment matter, start it as one.
"""

import contextlib
import io
import runpy
import subprocess
import sys
from unittest import mock
import warnings

from absl import app, flags

# What has commands; other modules' flags are libraries'.
COMMANDS = ('experiments', 'scripts', 'tests')


def _of_libraries():
  """The flags that libraries have defined, by name."""
  return {
    flag.name: flag
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.partition('.')[0] not in COMMANDS
    for flag in defined
  }


@contextlib.contextmanager
def own_flags():
  """Hides the flags of commands; they may have equal names."""
  assert app.flags is flags  # Its flags are defined, too.
  kept = dict(vars(flags.FLAGS))
  own = flags.FlagValues()
  for name, flag in _of_libraries().items():
    own[name] = flag
  vars(flags.FLAGS).update(vars(own))
  try:
    yield
  finally:
    found = _of_libraries()  # Some may have been imported meanwhile.
    vars(flags.FLAGS).update(kept)
    for name in found.keys() - set(flags.FLAGS):
      flags.FLAGS[name] = found[name]


def run(module, *arguments):
  """Runs a command to its end; what it logs goes where a test's logs go.

  Returns:
    The status and what was printed, as `subprocess.run` has them.
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
    # Of ml_collections, that it loads a config; of runpy, that the module has
    # been imported before.
    warnings.filterwarnings('ignore', r'the load_module\(\) method')
    warnings.filterwarnings('ignore', r'.* found in sys\.modules after import')
    try:
      runpy.run_module(module, run_name='__main__', alter_sys=True)
    except SystemExit as ending:
      status = ending.code or 0
      if isinstance(status, str):  # As Python does it.
        print(status, file=errors)
        status = 1
  return subprocess.CompletedProcess(
    [module, *arguments], status, output.getvalue(), errors.getvalue()
  )
