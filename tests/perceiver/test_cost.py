"""The counting rule counts what the model computes."""

import jax
import pytest

from configs import digits, imagenet
from experiments import benchmarks
from experiments.models import model_shapes, transform_model
from perceiver import cost

SMALL = {'num_latents': 16, 'latent_channels': 64, 'num_self_attends': 2}
QUERY = {'head': 'query', 'cross_attend_widening_factor': 2}
HEADS = {'cross_attend_heads': 2, 'cross_attend_channels': 12}


@pytest.mark.parametrize(
  ('module', 'variant', 'overrides'),
  [
    (imagenet, '', SMALL),
    (imagenet, 'table5_4', {}),
    (imagenet, '', SMALL | QUERY),
    (imagenet, 'table6_2_at_start', SMALL),
    (digits, '', HEADS | {'widening_factor': 3}),
  ],
)
def test_the_rule_counts_what_the_model_computes(module, variant, overrides):
  config = module.get_config(variant)
  config.model.update(overrides)
  config.model.attention = 'plain'
  task = benchmarks.create(**config.task)
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
  assert cost.program_flops(program.jaxpr) == expected
