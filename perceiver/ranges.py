"""Ranges of numbers, as annotations of the settings that they bound.

num_latents: Count
dropout_rate: Annotated[float, Range('[0, 1)')]
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import typing
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Range:
  """An interval as mathematics writes it: '[0, 1)' has 0, but not 1.

  No interval has NaN or, being open there, infinity.
  """

  text: str

  def __contains__(self, number: float) -> bool:
    low, high = (float(end) for end in self.text[1:-1].split(','))
    above = low <= number if self.text[0] == '[' else low < number
    below = number <= high if self.text[-1] == ']' else number < high
    return above and below


Count = Annotated[int, Range('[1, inf)')]
CountOrZero = Annotated[int, Range('[0, inf)')]
Positive = Annotated[float, Range('(0, inf)')]
PositiveOrZero = Annotated[float, Range('[0, inf)')]
Fraction = Annotated[float, Range('[0, 1]')]
FractionBelowOne = Annotated[float, Range('[0, 1)')]


def check(
  annotated: Callable[..., Any], settings: Mapping[str, Any], prefix: str = ''
) -> None:
  """Checks numbers, also in tuples, against the annotations of a signature.

  Args:
    annotated: class, typed dictionary or function whose annotations to take.
    settings: values by name; those without an annotation may be anything.
    prefix: of their names in a message.

  Raises:
    ValueError: for the first number out of its range, by its name.
  """
  hints = typing.get_type_hints(annotated, include_extras=True)
  for name, value in settings.items():
    for allowed in _ranges(hints.get(name)):
      if not all(number in allowed for number in _numbers(value)):
        raise ValueError(f'{prefix}{name}={value} must be in {allowed.text}.')


def _ranges(hint: Any) -> Iterator[Range]:
  """Of an annotation, or of the parts of a union or tuple."""
  if isinstance(hint, Range):
    yield hint
  for part in typing.get_args(hint):  # Also what an annotation says of a type.
    yield from _ranges(part)


def _numbers(value: Any) -> Iterator[float]:
  if isinstance(value, int | float) and not isinstance(value, bool):
    yield value
  elif isinstance(value, tuple | list):
    for part in value:
      yield from _numbers(part)
