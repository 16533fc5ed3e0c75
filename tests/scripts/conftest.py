"""The browser, for tests of pages."""

import pytest

from tests.browser import Browser
from tests.devtools import find_or_skip


@pytest.fixture(scope='session')
def chromium():
  """Starts one process for all tests; skips or fails them without one."""
  with Browser(find_or_skip()) as process:
    yield process


@pytest.fixture
def browser(chromium):
  """Returns a `Browser`, whose pages are closed after the test."""
  yield chromium
  chromium.close_sessions()
