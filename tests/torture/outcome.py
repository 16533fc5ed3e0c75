"""Outcomes of the faults of one kind."""

import dataclasses


@dataclasses.dataclass
class Outcome:
  """Counts of the faults of one kind."""

  test: str  # What was done to what.
  tried: int = 0
  survived: int = 0  # After these all went on as if nothing had happened.
  notes: list[str] = dataclasses.field(default_factory=list)

  @property
  def lost(self) -> int:
    return self.tried - self.survived

  def add(self, problem: str, faults: int = 1) -> None:
    """Counts faults; they are survived if `problem` is empty."""
    self.tried += faults
    if problem:
      self.notes.append(problem)
    else:
      self.survived += faults


def scaled(scale: float, count: int) -> int:
  """How many faults to try: at least one."""
  return max(1, round(scale * count))
