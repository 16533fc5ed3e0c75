"""Docstrings can be read alone: without the line above them."""

import ast

import pytest

from tests.conftest import ROOT

# First words that need the line above, as in "Of a split.".
LEANING = {'As', 'From', 'Likewise', 'Of', 'That', 'Those', 'What', 'Whose'}
FOLDERS = ('configs', 'docs', 'experiments', 'perceiver', 'scripts', 'tests')


def first_words(path):
  """Yields the line and the first word of each docstring in a file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(
      node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    ):
      words = (ast.get_docstring(node) or '').split()
      if words:
        yield node.body[0].lineno, words[0].strip('.,:;')


@pytest.mark.parametrize('folder', FOLDERS)
def test_docstrings_stand_alone(folder):
  found = [
    (path, *place)
    for path in sorted((ROOT / folder).rglob('*.py'))
    for place in first_words(path)
  ]
  assert found
  leaning = [
    f'{path.relative_to(ROOT)}:{line}: {word} …'
    for path, line, word in found
    if word in LEANING
  ]
  assert leaning == []
