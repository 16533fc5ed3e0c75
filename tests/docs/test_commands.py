"""Commands and imports of all pages are checked without running the pages."""

import ast
import importlib.util
import pkgutil

import pytest

from tests import quick
from tests.docs import (
  pages,
  test_notebook,
  test_pages_on_data,
  test_pages_on_runs,
)

OURS = ('configs', 'experiments', 'perceiver', 'scripts')


def test_every_page_is_run_once():
  run = [*test_pages_on_data.PAGES, *test_pages_on_runs.PAGES]
  assert sorted([*run, test_notebook.PAGE]) == sorted(pages.names())


# They have all kinds of commands. Slow tests check and run all pages' commands.
QUICK = 'README.md', 'docs/running.md'


@pytest.mark.parametrize('name', quick.only(QUICK, pages.names()))
def test_commands_can_be_given_as_they_are(checkout, name):
  checkout.check(pages.read(name))


@pytest.mark.parametrize('name', pages.names())
def test_snippets_import_what_there_is(name):
  for fence in pages.read(name).fences:
    if fence.language == 'python':
      for node in ast.walk(ast.parse(fence.code)):
        if isinstance(node, ast.Import):
          assert all(importlib.util.find_spec(x.name) for x in node.names)
        elif isinstance(node, ast.ImportFrom):
          assert importlib.util.find_spec(node.module), fence
          if node.module.split('.')[0] in OURS:
            for alias in node.names:
              pkgutil.resolve_name(f'{node.module}.{alias.name}')
