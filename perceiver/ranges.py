"""Ranges of numbers, as annotations of the settings they bound.

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
  """An interval in the usual notation: '[0, 1)' contains 0, but not 1.

  No interval contains NaN, or infinity where it is open.
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
  """Checks numbers, also in tuples, against annotations.

  Args:
    annotated: a class, typed dictionary or function with annotations.
    settings: values by name; without an annotation, any value is allowed.
    prefix: prefix of the names in messages.

  Raises:
    ValueError: names the first value that is out of range or has another type.
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
  """Yields the ranges in an annotation, also in parts of a union or tuple."""
  parts = typing.get_args(hint)
  if any(isinstance(part, Range) for part in parts):  # Annotated[int, Range]
    number_type = numbers.Integral if parts[0] is int else numbers.Real
    yield from ((number_type, x) for x in parts if isinstance(x, Range))
  else:
    for part in parts:
      yield from _ranges(part)


def _leaves(value: Any) -> Iterator[Any]:
  """Yields values, also from tuples; skips None, which means the default."""
  if isinstance(value, tuple | list):
    for part in value:
      yield from _leaves(part)
  elif value is not None:
    yield value
