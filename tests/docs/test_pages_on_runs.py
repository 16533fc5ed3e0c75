"""The quick start and pages that follow it run as written."""

import pytest

from tests.docs import pages

pytestmark = pytest.mark.slow
PAGES = (
  'docs/quick_start.md',
  'docs/pretrained.md',
  'docs/reading.md',
  'docs/running.md',
  'docs/planning.md',
  'docs/index.md',
  'README.md',
)


@pytest.mark.parametrize('name', PAGES)
def test_a_page_does_what_it_says(checkout, name):
  checkout.run(pages.read(name))
