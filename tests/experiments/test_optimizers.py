"""Optimizers agree with their papers; learning rates with the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import optimizers


def lamb_in_numpy(grads, params, decay, schedule, steps):
  """Applies LAMB (You et al., 2020) in float64 to given gradients."""
  m = v = 0.0
  for t in range(steps):
    g = grads(params)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    r = m / (1 - 0.9 ** (t + 1))
    r = r / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-6) + decay * params
    trust = np.linalg.norm(params) / np.linalg.norm(r)
    params = params - schedule(t) * trust * r
  return params


def test_lamb_decays_weights_but_not_biases_and_norms():
  optimizer, schedule = optimizers.create(
    20,
    name='lamb',
    learning_rate=0.1,
    schedule='step',
    decay_at=(0.5,),
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    weight_decay=0.1,
    clip_norm=1e9,
  )
  rng = np.random.default_rng(0)
  start = {
    'layer': {n: rng.normal(size=(3, 4)) for n in ('w', 'b', 'scale', 'offset')}
  }
  target = rng.normal(size=(3, 4))
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for _ in range(20):
    grads = jax.tree.map(lambda x: x - target.astype(np.float32), params)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  for name, x in params['layer'].items():
    expected = lamb_in_numpy(
      lambda p: p - target,
      start['layer'][name],
      0.1 if name == 'w' else 0.0,
      schedule,
      20,
    )
    np.testing.assert_allclose(x, expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['lamb', 'adamw'])
def test_optimizers_are_those_of_optax(name):
  """Also their states: checkpoints fit."""
  settings = {'b1': 0.9, 'b2': 0.99, 'eps': 1e-6, 'weight_decay': 0.1}
  ours, schedule = optimizers.create(
    10, name=name, learning_rate=0.1, clip_norm=2.0, **settings
  )
  theirs = optax.chain(
    optax.clip_by_global_norm(2.0),
    getattr(optax, name)(
      schedule, mask=optimizers.weight_decay_mask, **settings
    ),
  )
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {
    'a': {'w': draw(3, 4), 'b': draw(4)},
    'b': {'w': draw(3, 4), 'b': jnp.zeros(4)},  # Its norm is 0.
  }
  state, expected_state = ours.init(params), theirs.init(params)
  assert jax.tree.structure(state) == jax.tree.structure(expected_state)
  for size in (0.1, 10.0):  # Only the second one is clipped.
    grads = jax.tree.map(lambda x, size=size: size * draw(*x.shape), params)
    grads['a']['b'] = jnp.zeros(4)
    updates, state = ours.update(grads, state, params)
    expected, expected_state = theirs.update(grads, expected_state, params)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
      (updates, state),
      (expected, expected_state),
    )


def test_global_norm():
  tree = {'a': jnp.full((2, 3), 2.0), 'b': [jnp.full((2, 3), 3.0), jnp.ones(3)]}
  np.testing.assert_allclose(
    optimizers.global_norm(tree), np.sqrt(6 * 4 + 6 * 9 + 3), rtol=1e-6
  )


def test_gradients_are_clipped_by_their_global_norm():
  optimizer, _ = optimizers.create(
    1,
    name='adamw',
    learning_rate=1.0,
    b1=0.0,
    b2=0.999,
    eps=1e3,
    weight_decay=0.0,
    clip_norm=1.0,
  )
  params = {'a': jnp.zeros(2), 'b': jnp.zeros(2)}
  # With a huge eps AdamW's first update is minus the gradient over eps.
  for size in (0.1, 100.0):
    grads = {'a': jnp.full(2, size), 'b': jnp.full(2, size)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    norm = float(optax.tree.norm(updates)) * 1e3
    np.testing.assert_allclose(norm, min(2 * size, 1.0), rtol=1e-2)


def test_learning_rates():
  imagenet = optimizers.learning_rate_schedule(
    120 * 100,
    learning_rate=4e-3,
    schedule='step',
    decay_at=(84 / 120, 102 / 120, 114 / 120),
  )
  at = [float(imagenet(epoch * 100)) for epoch in (0, 83, 84, 102, 114, 119)]
  np.testing.assert_allclose(
    at, [4e-3, 4e-3, 4e-4, 4e-5, 4e-6, 4e-6], rtol=1e-6
  )
  cosine = optimizers.learning_rate_schedule(
    100, learning_rate=1.0, schedule='cosine', warmup=0.1
  )
  rates = [float(cosine(step)) for step in (0, 5, 10, 55, 100)]
  np.testing.assert_allclose(rates, [0, 0.5, 1, 0.5, 0], atol=1e-6)
  constant_first = optimizers.learning_rate_schedule(
    100, learning_rate=1.0, schedule='cosine', decay_at=(0.8, 0.5), warmup=0.1
  )
  rates = [float(constant_first(step)) for step in (5, 10, 50, 75, 100)]
  np.testing.assert_allclose(rates, [0.5, 1, 1, 0.5, 0], atol=1e-6)
  constant = optimizers.learning_rate_schedule(100, learning_rate=1.0)
  assert float(constant(99)) == 1.0


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    # Two decays on the same step.
    ({'decay_at': (0.5, 0.52)}, [1, 1, 1, 1, 1, 0.01, 0.01, 0.01, 0.01, 0.01]),
    ({'decay_at': (0.0, 0.04, 0.5)}, [0.01] * 5 + [0.001] * 5),
    # Decays during the warm-up count once it is over.
    (
      {'warmup': 0.4, 'decay_at': (0.2, 0.22, 0.4, 0.8)},
      [0, 0.25, 0.5, 0.75, 1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4],
    ),
    ({'warmup': 0.2, 'decay_at': (0.1, 0.2)}, [0, 0.5] + [0.01] * 8),
  ],
)
def test_short_runs_lose_no_decay(settings, expected):
  schedule = optimizers.learning_rate_schedule(
    10, learning_rate=1.0, schedule='step', **settings
  )
  rates = [float(schedule(step)) for step in range(10)]
  np.testing.assert_allclose(rates, expected, rtol=1e-5)
