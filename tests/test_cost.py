"""The paper's costs, and that the counting rule counts what is computed."""

import json
import math
import subprocess
import sys

import jax
import jax.extend
import pytest

from configs import digits, imagenet
from experiments import tasks
from experiments.experiment import model_shapes, transform_model
from perceiver import cost
from scripts import tables

MISPRINT = ('1 at start', 'M parameters')


@pytest.mark.parametrize('table', tables.TABLES)
def test_every_cost_is_the_papers_to_the_printed_digit(table):
  for figure in tables.compare(table):
    if (figure['row'], figure['quantity']) == MISPRINT:
      assert (figure['paper'], figure['ours']) == (41.1, 42.1)
      assert 'misprint' in figure['note']
    else:
      assert figure['ours'] == figure['paper'], figure
      assert not figure['note']


def test_table_5_tells_what_its_last_row_took_here():
  report = json.loads(tables.MEASURED.read_text())
  (result,) = report['results']
  assert (result['mode'], result['batch_size']) == ('train', 8)
  assert f'{result["peak_bytes"] / 1e9:.1f} GB' in tables.measured()
  assert report['command'] in tables.measured()


def test_the_command_prints_json_and_text():
  command = [sys.executable, '-m', 'scripts.tables', '--table=6']
  output = subprocess.run(
    [*command, '--format=json'], capture_output=True, text=True, check=True
  ).stdout
  figures = json.loads(output)
  assert len(figures) == 16
  assert {'row', 'quantity', 'paper', 'ours'} <= figures[0].keys()
  text = subprocess.run(command, capture_output=True, text=True, check=True)
  assert 'misprint' in text.stdout
  assert '707.2' in text.stdout


def counted_flops(jaxpr) -> int:
  """The rule, applied to the operations of a traced program."""
  flops = 0
  for equation in jaxpr.eqns:
    shapes = [v.aval.shape for v in equation.outvars]
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      lhs = equation.invars[0].aval.shape
      terms = math.prod(lhs[i] for i in contracted)
      flops += 2 * terms * math.prod(shapes[0])
    elif equation.primitive.name == 'exp':  # One for each logit.
      flops += 3 * math.prod(shapes[0])
    times = equation.params.get('length', 1)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      flops += times * counted_flops(inner)
  return flops


@pytest.mark.parametrize(
  ('module', 'variant', 'overrides'),
  [
    (imagenet, '', {}),
    (imagenet, 'table5_4', {}),
    (imagenet, 'table6_2_at_start', {}),
    (
      digits,
      '',
      {
        'widening_factor': 3,
        'cross_attend_heads': 2,
        'cross_attend_channels': 12,
      },
    ),
  ],
)
def test_the_rule_counts_what_the_model_computes(module, variant, overrides):
  config = module.get_config(variant)
  config.model.update(overrides)
  config.model.attention = 'plain'
  task = tasks.create(**config.task)
  forward = transform_model(config, task)
  batch = task.batch_spec(1)
  params, state = jax.eval_shape(
    lambda key, b: forward.init(key, b, False), jax.random.key(0), batch
  )
  program = jax.make_jaxpr(
    lambda p, s, b: forward.apply(p, s, None, b, False)[0]
  )(params, state, batch)
  _, inputs = model_shapes(config)
  expected = cost.perceiver_flops(
    config.model, inputs.num_elements, inputs.num_channels
  )
  assert counted_flops(program.jaxpr) == expected
