"""The page's table of keys that a run may change agrees with the code."""

from docs import keys
from tests.conftest import ROOT


def test_the_page_has_the_table():
  assert keys.table() in (ROOT / 'docs' / 'running.md').read_text()
