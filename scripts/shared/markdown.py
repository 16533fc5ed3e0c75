"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(
  header: Sequence[str], rows: Iterable[Sequence[Any]], aligns: str = ''
) -> str:
  """Returns a table in Markdown.

  Args:
    header: the names of the columns.
    rows: the cells of each row; they may have any text.
    aligns: 'l' (left) or 'r' (right) for each column; by default all are left.
  """
  rules = {'l': '---', 'r': '---:'}
  rule = [rules[x] for x in aligns or 'l' * len(header)]
  return '\n'.join(map(_line, [header, rule, *rows]))


def _line(cells: Sequence[Any]) -> str:
  texts = (str(x).replace('|', r'\|').replace('\n', ' ') for x in cells)
  return '|' + ''.join(f' {text} |' if text else ' |' for text in texts)
