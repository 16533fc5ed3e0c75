"""Which of a test's parameters `make test` takes; `make test-all` takes all."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def only(quick: Container[Any], values: Iterable[Any]) -> list[Any]:
  """The values as parameters, those that are not in `quick` marked as slow."""
  marks = {True: (), False: (pytest.mark.slow,)}
  return [pytest.param(x, marks=marks[x in quick]) for x in values]
