"""The browser, for tests of what is to be looked at."""

import pytest

from tests.browser import Browser
from tests.devtools import find_or_skip


@pytest.fixture(scope='session')
def chromium():
  """One process for all tests; skips or fails them where there is none."""
  with Browser(find_or_skip()) as process:
    yield process


@pytest.fixture
def browser(chromium):
  """See tests/browser.py; the pages that a test opens are closed after it."""
  yield chromium
  chromium.close_sessions()
