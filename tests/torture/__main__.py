"""Does to runs what clusters do to them: `python -m tests.torture`.

Each test says how many faults it tried, and after how many of them all went on
as if nothing had happened. Where something was lost, the exit status is 1.
"""

import os
import shutil
import sys
import tempfile

from absl import app, flags
import jax

from experiments import path_flags
from scripts.shared import command
from tests.torture import damage, hangs, kills, preparing, signals, soak
from tests.torture.outcome import Outcome

# Each takes the seed of its random choices, a scale that multiplies its numbers
# of faults or steps, and an empty folder to work in; it yields outcomes.
TESTS = {
  'kills': kills.run,
  'signals': signals.run,
  'hangs': hangs.run,
  'damage': damage.run,
  'preparing': preparing.run,
  'soak': soak.run,
}


def main(
  names: list[str], seed: int, scale: float, workdir: str | None
) -> None:
  """Does some tests and prints a table of what survived.

  Exits with status 1 if anything was lost; the folder is kept then.
  """
  if unknown := set(names) - TESTS.keys():
    raise ValueError(
      f'--tests: there is no {min(unknown)!r}, only {", ".join(TESTS)}.'
    )
  jax.config.update('jax_platforms', 'cpu')
  os.environ['JAX_PLATFORMS'] = 'cpu'  # For the processes that tests start.
  _say(f'Seed {seed}, scale {scale}.')
  folder = os.path.abspath(workdir or tempfile.mkdtemp(prefix='torture-'))
  os.makedirs(folder, exist_ok=True)
  outcomes: list[Outcome] = []
  for name in names:
    place = tempfile.mkdtemp(prefix=f'{name}-', dir=folder)
    for outcome in TESTS[name](seed, scale, place):
      _say(f'{outcome.test}: {outcome.survived} of {outcome.tried} survived')
      outcomes.append(outcome)
  print('| Test | Tried | Survived | Lost | Note |')
  print('| --- | ---: | ---: | ---: | --- |')
  for x in outcomes:
    note = '; '.join(x.notes[:3]).replace('|', '\\|').replace('\n', ' ')
    print(f'| {x.test} | {x.tried} | {x.survived} | {x.lost} | {note} |')
  if any(outcome.lost for outcome in outcomes):
    sys.exit(f'Something was lost: see {folder}.')
  if workdir is None:
    shutil.rmtree(folder)


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _run(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  with command.running('test'):
    main(_TESTS.value, _SEED.value, _SCALE.value, _WORKDIR.value)


if __name__ == '__main__':
  _TESTS = flags.DEFINE_list('tests', list(TESTS), 'Which tests to do.')
  _SEED = flags.DEFINE_integer('seed', 0, 'Of the moments and the damage.')
  _SCALE = flags.DEFINE_float(
    'scale', 1.0, 'Multiplies the number of kills, damages and so on.', 0.0
  )
  _WORKDIR = path_flags.define_path(
    'workdir',
    None,
    'A folder to work in; else a temporary one, kept if something was lost.',
  )
  app.run(_run)
