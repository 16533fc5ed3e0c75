import pytest

from tests.docs import runner


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
  """A copy of the checkout, for the pages of a module of tests."""
  checkout = runner.Checkout(tmp_path_factory.mktemp('checkout'))
  yield checkout
  checkout.close()
