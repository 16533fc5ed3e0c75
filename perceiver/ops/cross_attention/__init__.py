"""Cross-attention to a byte array: the front door of this room."""

from perceiver.ops.cross_attention.forms import (
  choose,
  cross_attend,
  FactoredInputs,
  FORMS,
  input_queries,
  InputQueries,
  Inputs,
  Method,
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
