"""Mixup and CutMix: images and targets are mixed alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.imagenet import mixing

B, SIZE = 64, 16


def mix(mixup_alpha, use_cutmix, mask=None, seed=0):
  """Image i is full of i, so a pixel tells which image it is from."""
  values = jnp.arange(B, dtype=jnp.float32)[:, None, None, None]
  images = jnp.broadcast_to(values, (B, SIZE, SIZE, 3))
  mixed, targets = mixing.mix(
    images,
    jnp.eye(B),
    jnp.ones(B, bool) if mask is None else mask,
    jax.random.key(seed),
    mixup_alpha=mixup_alpha,
    use_cutmix=use_cutmix,
  )
  return np.asarray(mixed), np.asarray(targets)


@pytest.mark.slow
def test_a_target_is_the_share_of_the_pixels():
  for settings in ((0.2, False), (0.0, True), (0.2, True)):
    mixed, targets = mix(*settings)
    mean = mixed.mean(axis=(1, 2, 3))
    # Two images' values, weighed as their targets are.
    np.testing.assert_allclose(targets @ np.arange(B), mean, rtol=1e-5)
    np.testing.assert_allclose(targets.sum(1), 1.0, rtol=1e-6)
    assert (np.count_nonzero(targets, axis=1) <= 2).all()


def test_cutmix_cuts_boxes_and_mixup_does_not():
  def is_uniform(mixed):
    return (mixed == mixed[:, :1, :1]).all(axis=(1, 2, 3))

  assert is_uniform(mix(0.2, False)[0]).all()
  cut, targets = mix(0.0, True)
  own = cut[..., 0] == np.arange(B)[:, None, None]  # [B, H, W]
  rows, columns = ~own.all(2), ~own.all(1)
  box = rows[:, :, None] & columns[:, None, :]
  np.testing.assert_array_equal(box, ~own)
  for inside in (rows, columns):  # Each a single interval.
    assert (np.abs(np.diff(inside.astype(int))).sum(1) <= 2).all()
  assert 0.6 < np.diag(targets).mean() < 0.95  # Boxes are cut at the border.
  both = mix(0.2, True)[0]
  assert is_uniform(both)[::2].all()
  assert not is_uniform(both)[1::2].all()


def test_mixup_weights_are_of_their_beta_distribution():
  images, key = jnp.zeros((4096, 1, 1, 1)), jax.random.key(0)
  _, weight = mixing.mixup(images, key, 0.2)
  # Variance 1 / (4 (2 α + 1)); five standard errors of 4,096 draws.
  np.testing.assert_allclose(np.mean(weight), 0.5, atol=0.035)
  np.testing.assert_allclose(np.var(weight), 1 / 5.6, atol=0.01)


def test_nothing_is_mixed_with_what_is_masked_out():
  mask = jnp.arange(B) % 3 != 0
  mixed, targets = mix(0.2, True, mask)
  alone = np.roll(~np.asarray(mask), 1)
  np.testing.assert_array_equal(targets[alone], np.eye(B)[alone])
  assert (mixed[alone] == np.arange(B)[alone, None, None, None]).all()


def test_the_key_alone_decides():
  first, again, other = mix(0.2, True), mix(0.2, True), mix(0.2, True, seed=1)
  np.testing.assert_array_equal(first[0], again[0])
  assert (first[0] != other[0]).any()
