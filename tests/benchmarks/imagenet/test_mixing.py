"""Mixup and CutMix: images and targets are mixed alike, and with whom."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from experiments import benchmarks, sharding
from experiments.benchmarks.imagenet import mixing

B, SIZE = 64, 16


def mix(mixup_alpha, use_cutmix, mask=None, seed=0):
  """Image i is full of i, so a pixel tells which image it is from."""
  values = jnp.arange(B, dtype=jnp.float32)[:, None, None, None]
  examples = mixing.Examples(
    jnp.broadcast_to(values, (B, SIZE, SIZE, 3)),
    jnp.eye(B),
    jnp.ones(B, bool) if mask is None else mask,
  )
  mixed, targets = mixing.mix(
    examples,
    mixing.neighbours(examples),
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
  _, weight = mixing.mixup(images, images, key, 0.2)
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


def recipe(**settings):
  """The released code's recipe on small images, one class for each."""
  task = imagenet.get_config('io').task
  task.update(
    {'image_size': SIZE, 'num_classes': 2 * B, 'label_smoothing': 0.0}
    | settings
  )
  return benchmarks.create(**task)


def two_batches(mask=None):
  """Image i is full of i and has class i; 2 B of them."""
  images = np.broadcast_to(
    np.arange(2 * B, dtype=np.uint8)[:, None, None, None],
    (2 * B, SIZE, SIZE, 3),
  )
  mask = np.ones(2 * B, bool) if mask is None else mask
  labels = np.arange(2 * B, dtype=np.int32)
  return {'image': images, 'label': labels, 'mask': mask}


@pytest.mark.parametrize(
  'settings', [{}, {'mixup_alpha': 0.0}, {'cutmix': False}]
)
def test_another_batch_gives_each_example_a_partner_of_its_own(settings):
  task = recipe(**settings)
  assert task.num_mixed == 2
  mixed = task.augment_batch(two_batches(), jax.random.key(0))
  spec = task.batch_spec(B)
  assert {k: mixed[k].shape for k in spec} == {
    k: x.shape for k, x in spec.items()
  }
  assert mixed['label'].tolist() == [*range(0, 2 * B, 2)]
  targets = np.asarray(mixed['targets'])
  own, other = targets[np.arange(B), ::2], targets[np.arange(B), 1::2]
  # Example 2 i is mixed with 2 i + 1, and none is in two of the images.
  np.testing.assert_array_equal(own, np.diag(np.diag(own)))
  np.testing.assert_array_equal(other, np.diag(np.diag(other)))
  np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
  assert np.count_nonzero(np.diag(other)) > B / 2
  # A target is the share of the pixels.
  pixels = np.asarray(mixed['image']).mean(axis=(1, 2, 3))
  np.testing.assert_allclose(targets @ np.arange(2 * B), pixels, rtol=1e-5)


def test_a_pair_with_a_damaged_example_is_not_mixed():
  mask = np.ones(2 * B, bool)
  mask[[0, 3]] = False  # The example of pair 0, the partner in pair 1.
  mixed = recipe().augment_batch(two_batches(mask), jax.random.key(0))
  assert mixed['mask'].tolist() == [False] + [True] * (B - 1)
  assert (np.asarray(mixed['image'][1]) == 2).all()
  assert np.asarray(mixed['targets'][1]).tolist() == np.eye(2 * B)[2].tolist()


def test_without_mixing_no_other_batch_is_read():
  assert recipe(mixup_alpha=0.0, cutmix=False).num_mixed == 1
  assert recipe(mix_with='neighbours').num_mixed == 1


@pytest.mark.parametrize(
  ('mix_with', 'sends'), [('another_batch', False), ('neighbours', True)]
)
def test_pairs_are_mixed_where_they_are(mix_with, sends):
  """The images of a pair are on the same device; neighbours may not be."""
  mesh = sharding.make_mesh(1)
  assert mesh.size == 8
  split = sharding.batch_sharding(mesh)
  augment = jax.jit(
    recipe(mix_with=mix_with).augment_batch,
    in_shardings=(split, sharding.replicated(mesh)),
    out_shardings=split,
  )
  program = augment.lower(two_batches(), jax.random.key(0)).compile().as_text()
  sent = re.search('all-gather|all-to-all|collective-permute', program)
  assert bool(sent) == sends
