"""Costs of a Perceiver, counted as the paper counts (Tables 5 to 7).

The rule: the forward pass of one example; every matrix product counts 2 per
multiply-add, a softmax counts 3 per logit, and nothing else counts: no layer
norm, GELU, bias, residual or position features. All figures of the paper
follow from it to the printed digit.

Glossary of shapes:
- N: latents; D: latent channels; M: input elements; C: input channels.
- F: channels of queries, keys and values, over all H heads; W: widening factor.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax
import jax.extend
import numpy as np

from perceiver.model import Perceiver


def count_parameters(params: Any) -> int:
  """Counts the parameters in a tree of arrays or of their shapes."""
  return sum(math.prod(np.shape(x)) for x in jax.tree.leaves(params))


def attention_flops(
  num_queries: int,
  query_channels: int,
  num_inputs: int,
  input_channels: int,
  channels: int,
  num_heads: int,
) -> int:
  """Counts the FLOPs of attention from [N, D] to [M, C], and its output."""
  project_query = 2 * num_queries * query_channels * channels
  project_key_and_value = 2 * 2 * num_inputs * input_channels * channels
  logits = 2 * num_queries * num_inputs * channels
  softmax = 3 * num_heads * num_queries * num_inputs
  weigh_values = 2 * num_queries * num_inputs * channels
  output = 2 * num_queries * channels * query_channels
  return (
    project_query
    + project_key_and_value
    + logits
    + softmax
    + weigh_values
    + output
  )


def dense_block_flops(num_latents: int, channels: int, widening: int) -> int:
  """Counts the FLOPs of the dense block, [N, D] to [N, WD] and back."""
  return 2 * 2 * num_latents * channels * widening * channels


def perceiver_flops(
  model: Mapping[str, Any], num_inputs: int, input_channels: int
) -> int:
  """Counts the FLOPs of a forward pass of one example.

  Args:
    model: the arguments of `Perceiver`, such as a config's `model` section.
    num_inputs: M, elements of the byte array.
    input_channels: C.

  Returns:
    FLOPs by the paper's counting rule (above).
  """
  settings: dict[str, Any] = {
    field.name: field.default for field in dataclasses.fields(Perceiver)
  }
  settings |= model
  n, d = settings['num_latents'], settings['latent_channels']
  widening = settings['widening_factor']
  dense = dense_block_flops(n, d, widening)
  cross_attend = dense_block_flops(
    n, d, settings['cross_attend_widening_factor'] or widening
  ) + attention_flops(
    n,
    d,
    num_inputs,
    input_channels,
    settings['cross_attend_channels'] or min(input_channels, d),
    settings['cross_attend_heads'],
  )
  self_attend = dense + attention_flops(
    n, d, n, d, d, settings['self_attend_heads']
  )
  head = 2 * d * settings['num_classes']
  if settings['head'] == 'query':
    head += dense_block_flops(1, d, 1) + attention_flops(1, d, n, d, d, 1)
  return (
    settings['num_cross_attends'] * cross_attend
    + settings['num_latent_transformers']
    * settings['num_self_attends']
    * self_attend
    + head
  )


def program_flops(jaxpr: Any) -> int:
  """Counts FLOPs in a traced program, by the same rule.

  Args:
    jaxpr: as `jax.make_jaxpr(f)(...).jaxpr`; each `exp` counts as a logit.

  Returns:
    FLOPs of matrix products, convolutions and softmaxes.
  """
  flops = 0
  for equation in jaxpr.eqns:
    outputs = [math.prod(v.aval.shape) for v in equation.outvars]
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      lhs = equation.invars[0].aval.shape
      flops += 2 * math.prod(lhs[i] for i in contracted) * outputs[0]
    elif equation.primitive.name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      output_axis = equation.params['dimension_numbers'].rhs_spec[0]
      flops += 2 * math.prod(kernel) // kernel[output_axis] * outputs[0]
    elif equation.primitive.name == 'exp':
      flops += 3 * outputs[0]
    times = equation.params.get('length', 1)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      flops += times * program_flops(inner)
  return flops
