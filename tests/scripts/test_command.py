"""A command that is started wrongly, or without a device, prints one line."""

import re
import sys

import jax
import pytest

from experiments import experiment
from scripts.shared import command
from tests import commands
from tests.conftest import ROOT
from tests.experiments import processes
from tests.experiments.smoke import smoke

ENTRY_POINTS = sorted(
  path.relative_to(ROOT)
  for folder in ('experiments', 'scripts')
  for path in (ROOT / folder).glob('*.py')
  if "__name__ == '__main__'" in path.read_text()
)
OURS = {'configs', 'experiments', 'scripts'}


def first_of_ours(path):
  """Returns the first package of this checkout that a module imports."""
  text = (ROOT / path).read_text()
  packages = re.findall(r'^(?:from|import) (\w+)', text, re.M)
  return next(x for x in packages if x in OURS)


def test_every_command_that_is_started_as_a_file_finds_a_stand_in():
  assert len(ENTRY_POINTS) > 10
  for path in ENTRY_POINTS:
    assert (ROOT / path.parent / f'{first_of_ours(path)}.py').exists(), path
    # Imports of the standard library must not find a file of ours.
    others = {x.stem for x in (ROOT / path.parent).glob('*.py')} - OURS
    assert not others & sys.stdlib_module_names


@pytest.mark.parametrize('package', ['configs', 'experiments'])
def test_started_as_a_file_it_says_how_to_start_it(package, tmp_path):
  path = next(x for x in ENTRY_POINTS if first_of_ours(x) == package)
  result = commands.python(ROOT / path, cwd=tmp_path)
  assert result.returncode == 1
  assert result.stderr.startswith(f'Error: {ROOT / path} is a module')
  module = '.'.join(path.with_suffix('').parts)
  assert result.stderr.endswith(f' cd {ROOT}; python -m {module}\n')
  assert result.stderr.count('\n') == 1


@pytest.mark.slow
def test_a_run_without_the_device_that_it_asks_for_is_one_line(tmp_path):
  status, output, errors = processes.run(
    tmp_path / 'run', JAX_PLATFORMS='nonesuch'
  )
  assert (status, output) == (1, '')
  (line,) = errors.splitlines()
  start = 'Error: JAX has no device for JAX_PLATFORMS=nonesuch: '
  assert line.startswith(start)
  assert 'set JAX_PLATFORMS=cpu; or unset it' in line
  assert not (tmp_path / 'run').exists()


@pytest.fixture
def no_device(monkeypatch):
  """Fails like JAX if a GPU is requested without JAX's GPU package."""

  def devices():
    raise AssertionError

  monkeypatch.setattr(jax, 'devices', devices)


def test_scripts_and_experiments_without_a_device_say_so(no_device):
  message = r'^(Error: )?JAX has no device for JAX_PLATFORMS=cpu\. Install JAX'
  with pytest.raises(SystemExit, match=message), command.running():
    raise AssertionError  # From any first use of JAX.
  with pytest.raises(OSError, match=message):
    experiment.create(smoke())


@pytest.mark.parametrize('kind', [AssertionError, RuntimeError])
def test_other_errors_are_not_explained_away(kind):
  with pytest.raises(kind, match='A bug'), command.running():
    raise kind('A bug.')
