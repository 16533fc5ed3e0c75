"""Writes what experiments/results/small.json says into the pages.

python -m docs.claims

Run it after a sweep whose results are new: it writes the last part of
docs/claims.md and its pictures, the tables of README.md, which have small
results beside the paper's, and the summary in experiments/RESULTS.md.
"""

from collections.abc import Container
import pathlib
import re

from scripts.paper import results, small, verdicts
from scripts.sweep import figures
from scripts.tables import formats

ROOT = pathlib.Path(__file__).parent.parent
PAGE, README = ROOT / 'docs/claims.md', ROOT / 'README.md'
RESULTS = ROOT / 'experiments/RESULTS.md'
PICTURES = ROOT / 'docs/figures'
PREFIX = 'small_'
HEADING = '\n## What they say\n'
README_TABLES = (1, 2, 3, 4)
# The pictures below the tables, and what they show.
SHOWN = {
  'table2.svg': 'Table 2 in small: top-1 on Fashion-MNIST, raw and permuted',
  'table3.svg': 'Table 3 in small: mAP of each input',
  'table4.svg': 'Table 4 in small: top-1 on solids',
  'table5.svg': 'Table 5 in small: top-1 of cross-attends alone',
  'table6.svg': 'Table 6 in small: top-1 by the cross-attends and their places',
  'table7.svg': 'Table 7 in small: top-1 with and without shared weights',
  'figure5.svg': 'Figure 5 in small: top-1 by the size of the model',
  'figure6.svg': 'Figure 6 in small: top-1 by init scale, bands and resolution',
}


def page(known: small.Results, drawn: Container[str]) -> str:
  """Returns docs/claims.md: its text as it is there, and results.

  Args:
    known: results of sweeps.
    drawn: names of the pictures that there are of them.
  """
  before, _, _ = PAGE.read_text().partition(HEADING)
  before = _with_summary(before, known)
  parts = [small.report(known)]
  parts += [
    f'![{text}.](figures/{PREFIX}{name})'
    for name, text in SHOWN.items()
    if name in drawn
  ]
  return before + HEADING + '\n' + '\n\n'.join(parts) + '\n'


def summary(known: small.Results) -> str:
  """Returns experiments/RESULTS.md: its text as it is there, and verdicts."""
  return _with_summary(RESULTS.read_text(), known)


def readme() -> str:
  """Returns README.md: its text as it is there, and tables."""
  text = README.read_text()
  for table in README_TABLES:
    pattern = rf'\*\*Table {table}\*\*.*?\n\n(\|.*\n)+'
    text = _replaced(text, pattern, formats.markdown(table) + '\n')
  return text


def _with_summary(text: str, known: small.Results) -> str:
  new = verdicts.summary(verdicts.judge_all(known))
  return _replaced(text, r'Of \d+ claims .*?\.', new)


def _replaced(text: str, pattern: str, new: str) -> str:
  text, count = re.subn(pattern, lambda _: new, text)
  assert count == 1, f'{pattern} is there {count} times.'
  return text


def main() -> None:
  known = results.read(results.RESULTS)
  drawn = figures.all_of(known)
  PAGE.write_text(page(known, drawn))
  RESULTS.write_text(summary(known))
  README.write_text(readme())
  for path in PICTURES.glob(f'{PREFIX}*.svg'):
    path.unlink()
  for name, picture in drawn.items():
    (PICTURES / f'{PREFIX}{name}').write_bytes(picture)


if __name__ == '__main__':
  main()
