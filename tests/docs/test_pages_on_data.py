"""Pages on benchmarks, the model and faults run as written."""

import pytest

from tests.docs import pages

pytestmark = pytest.mark.slow
PAGES = (
  'docs/benchmarks.md',
  'docs/claims.md',
  'docs/faults.md',
  'docs/model.md',
  'docs/new_benchmark.md',
  'docs/api.md',
)


@pytest.mark.parametrize('name', PAGES)
def test_a_page_does_what_it_says(checkout, name):
  checkout.run(pages.read(name))
