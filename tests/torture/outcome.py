"""What a test of many kills or damages came to."""

from typing import NamedTuple


class Outcome(NamedTuple):
  """Counts of one test's kills or damages."""

  test: str  # What was done to what.
  tried: int  # Kills or damages.
  survived: int  # After which all went on as if nothing had been.
  lost: int  # After which something was lost, or was wrong.
  note: str = ''  # What was compared, or what was lost.
