"""Does to runs what clusters do to them: `python -m tests.torture`.

Each test says how often it did something, and after how many of those times all
went on as if nothing had been. Where something was lost, the exit status is 1.
"""

from collections.abc import Callable, Iterator
import functools
import importlib
import os
import shutil
import sys
import tempfile

from absl import app, flags
import jax

from experiments import path_flags
from scripts.shared import command
from tests.torture.outcome import Outcome

KILLS_OF_PREPARATION = 10
# What each does is in the module of that name in scripts/torturing.
NAMES = ('kills', 'signals', 'hangs', 'damage', 'preparing', 'soak')
Test = Callable[[int, float, str], Iterator[Outcome]]  # Seed, scale, folder.


def find(name: str) -> Test:
  """A test by its name; what it imports may need more than others do."""
  if name not in NAMES:
    raise ValueError(f'--tests: there is no {name!r}, only {", ".join(NAMES)}.')
  run = importlib.import_module(f'tests.torture.{name}').run
  return functools.partial(_prepare, run) if name == 'preparing' else run


def _prepare(
  run: Callable[[int, int, str], Outcome], seed: int, scale: float, folder: str
) -> Iterator[Outcome]:
  yield run(seed, max(1, round(scale * KILLS_OF_PREPARATION)), folder)


def torture(
  names: list[str], seed: int, scale: float, folder: str
) -> list[Outcome]:
  """Does some tests, each in a new folder of its own in this one."""
  tests = {name: find(name) for name in names}  # Fails before hours of work.
  outcomes = []
  for name, test in tests.items():
    place = tempfile.mkdtemp(prefix=f'{name}-', dir=folder)
    for outcome in test(seed, scale, place):
      _say(f'{outcome.test}: {outcome.survived} of {outcome.tried} survived')
      outcomes.append(outcome)
  return outcomes


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def table(outcomes: list[Outcome]) -> str:
  """The outcomes in Markdown."""
  rows = [
    ('Test', 'Tried', 'Survived', 'Lost', 'Note'),
    ('---', '---:', '---:', '---:', '---'),
    *outcomes,
  ]
  lines = (
    ' | '.join(str(x).replace('|', '\\|').replace('\n', ' ') for x in row)
    for row in rows
  )
  return '\n'.join(f'| {line} |' for line in lines)


def main(
  names: list[str], seed: int, scale: float, workdir: str | None
) -> None:
  """Prints the table; exits with status 1 if anything was lost."""
  jax.config.update('jax_platforms', 'cpu')
  os.environ['JAX_PLATFORMS'] = 'cpu'  # Of the processes that tests start.
  _say(f'Seed {seed}, scale {scale}.')
  folder = os.path.abspath(workdir or tempfile.mkdtemp(prefix='torture-'))
  os.makedirs(folder, exist_ok=True)
  outcomes = torture(names, seed, scale, folder)
  print(table(outcomes))
  if any(outcome.lost for outcome in outcomes):
    sys.exit(f'Something was lost: see {folder}.')
  if workdir is None:
    shutil.rmtree(folder)


def _run(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  arguments = _TESTS.value, _SEED.value, _SCALE.value, _WORKDIR.value
  del flags.FLAGS.workdir  # experiments.run, which tests import, has one, too.
  with command.running('test'):
    main(*arguments)


if __name__ == '__main__':
  _TESTS = flags.DEFINE_list('tests', list(NAMES), 'Which ones.')
  _SEED = flags.DEFINE_integer('seed', 0, 'Of kills and damages.')
  _SCALE = flags.DEFINE_float(
    'scale', 1.0, 'Multiplies the number of kills, damages and so on.', 0.0
  )
  _WORKDIR = path_flags.define_path(
    'workdir',
    None,
    'A folder to work in; else a temporary one, kept if something was lost.',
  )
  app.run(_run)
