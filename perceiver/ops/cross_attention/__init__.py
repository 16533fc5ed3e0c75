"""Cross-attention to a byte array: the front door of this room.

- `forms`: the three forms, which are one function.
- `choice`: which form is fastest here, from `hardware`'s facts.
- `factored`: the core of the forms without keys and values, and `elements`,
  what it works on.
- `kernels`: that core as a kernel for GPUs and TPUs.
"""

from perceiver.ops.cross_attention.choice import choose, FORMS, Method
from perceiver.ops.cross_attention.forms import (
  cross_attend,
  FactoredInputs,
  input_queries,
  InputQueries,
  Inputs,
  Parameters,
  PlainInputs,
  prepare,
)

__all__ = [
  'FORMS',
  'FactoredInputs',
  'InputQueries',
  'Inputs',
  'Method',
  'Parameters',
  'PlainInputs',
  'choose',
  'cross_attend',
  'input_queries',
  'prepare',
]
