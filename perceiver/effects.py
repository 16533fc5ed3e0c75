"""Effects of settings, as annotations of their fields.

attention: Computation[str]
dropout_rate: Training[FractionBelowOne]

A field without annotation is part of the function from input to logits: with
another value, trained weights mean something else.
"""

import enum
import typing
from typing import Annotated, Any, TypeVar


class Effect(enum.Enum):
  """Effects that the value of a setting can have."""

  FUNCTION = 'what the model computes'
  COMPUTATION = 'how it is computed'
  TRAINING = 'how it is trained'
  EVALUATION = 'how it is evaluated'


T = TypeVar('T')
Computation = Annotated[T, Effect.COMPUTATION]
Training = Annotated[T, Effect.TRAINING]
Evaluation = Annotated[T, Effect.EVALUATION]


def of_fields(annotated: type) -> dict[str, Effect]:
  """Returns the effect of each annotated field of a class, by name."""
  hints = typing.get_type_hints(annotated, include_extras=True)
  return {name: _effect(hint) for name, hint in hints.items()}


def _effect(hint: Any) -> Effect:
  for annotation in getattr(hint, '__metadata__', ()):
    if isinstance(annotation, Effect):
      return annotation
  return Effect.FUNCTION
