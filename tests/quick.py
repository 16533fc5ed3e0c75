"""Selects the parameters of a test for `make test`; `make test-all` has all."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def only(quick: Container[Any], values: Iterable[Any]) -> list[Any]:
  """Returns the values as parameters, marked as slow unless in `quick`."""
  marks = {True: (), False: (pytest.mark.slow,)}
  return [pytest.param(x, marks=marks[x in quick]) for x in values]
