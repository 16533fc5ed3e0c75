"""Ranges of numbers, as annotations of the settings that they bound.

num_latents: Count
dropout_rate: Annotated[float, Range('[0, 1)')]
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import numbers
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
    ValueError: for the first value out of its range, or of another type, by
      its name.
  """
  hints = typing.get_type_hints(annotated, include_extras=True)
  for name, value in settings.items():
    for number_type, allowed in _ranges(hints.get(name)):
      for number in _leaves(value):
        if not isinstance(number, number_type):
          kind = 'an integer' if number_type is numbers.Integral else 'a number'
          raise ValueError(f'{prefix}{name}={value!r} must be {kind}.')
        if number not in allowed:
          raise ValueError(f'{prefix}{name}={value} must be in {allowed.text}.')


def _ranges(hint: Any) -> Iterator[tuple[Any, Range]]:
  """Of an annotation, or of the parts of a union or tuple."""
  parts = typing.get_args(hint)
  if any(isinstance(part, Range) for part in parts):  # Annotated[int, Range]
    number_type = numbers.Integral if parts[0] is int else numbers.Real
    yield from ((number_type, x) for x in parts if isinstance(x, Range))
  else:
    for part in parts:
      yield from _ranges(part)


def _leaves(value: Any) -> Iterator[Any]:
  """What is no tuple and no None, whose place a default takes."""
  if isinstance(value, tuple | list):
    for part in value:
      yield from _leaves(part)
  elif value is not None:
    yield value
