"""Mixup and CutMix: each example is mixed with another one.

Both run on the device, inside the training step: their draws follow from the
step's key, so they are the same for any number of processes and after a resume.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Examples(NamedTuple):
  """Images and targets of a batch."""

  images: jax.Array  # [B, H, W, C] floats.
  targets: jax.Array  # [B, classes] probabilities.
  mask: jax.Array  # [B] bool: which of them exist.


def mixup(
  images: jax.Array, others: jax.Array, key: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Averages each image with another one (Zhang et al., 2018).

  Args:
    images: [B, H, W, C] floats.
    others: the images that they are mixed with, of the same shape.
    key: for the draws.
    alpha: the weights are drawn from Beta(alpha, alpha), one for each image.

  Returns:
    The mixed images, and [B]: the weight of each image's own part.
  """
  weight = jax.random.beta(key, alpha, alpha, images.shape[:1])
  own = weight[:, None, None, None]
  return own * images + (1 - own) * others, weight


def cutmix(
  images: jax.Array, others: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Replaces a box of each image by another one's (Yun et al., 2019).

  The box has the image's aspect, a uniform share of its area and a uniform
  centre; what lies outside the image is cut off.

  Args:
    images: [B, H, W, C] floats.
    others: the images that they are mixed with, of the same shape.
    key: for the draws.

  Returns:
    The mixed images, and [B]: the share of each image's own pixels.
  """
  batch, *grid, _ = images.shape
  area_key, centre_key = jax.random.split(key)
  side = jnp.sqrt(jax.random.uniform(area_key, (batch,)))  # In image sides.
  centre = jax.random.uniform(centre_key, (2, batch))

  def inside(size: int, centre: jax.Array) -> jax.Array:  # [B, size]
    start = jnp.round((centre - side / 2) * size)[:, None]
    stop = jnp.round((centre + side / 2) * size)[:, None]
    pixels = jnp.arange(size, dtype=jnp.float32)[None]
    return (start <= pixels) & (pixels < stop)

  rows, columns = map(inside, grid, centre)
  box = rows[:, :, None] & columns[:, None, :]  # [B, H, W]
  mixed = jnp.where(box[..., None], others, images)
  return mixed, 1 - jnp.mean(box.astype(jnp.float32), axis=(1, 2))


def neighbours(examples: Examples) -> Examples:
  """Returns the partners within one batch: example i's is example i - 1."""
  return jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), examples)


def mix(
  examples: Examples,
  others: Examples,
  key: jax.Array,
  *,
  mixup_alpha: float,
  use_cutmix: bool,
) -> tuple[jax.Array, jax.Array]:
  """Mixes images and targets; with both on, every second image by CutMix.

  Args:
    examples: the examples; nothing is mixed with one that is masked out.
    others: the examples that they are mixed with.
    key: for the draws.
    mixup_alpha: `alpha` of `mixup`; 0: no mixup.
    use_cutmix: whether to use `cutmix`.

  Returns:
    The mixed images and targets.
  """
  images = examples.images
  mixup_key, cutmix_key = jax.random.split(key)
  mixed, weight = images, jnp.ones(images.shape[:1])
  if mixup_alpha:
    mixed, weight = mixup(images, others.images, mixup_key, mixup_alpha)
  if use_cutmix:
    cut, cut_weight = cutmix(images, others.images, cutmix_key)
    is_cut = jnp.arange(len(images)) % 2 >= (1 if mixup_alpha else 0)
    mixed = jnp.where(is_cut[:, None, None, None], cut, mixed)
    weight = jnp.where(is_cut, cut_weight, weight)
  alone = ~others.mask
  mixed = jnp.where(alone[:, None, None, None], images, mixed)
  own = jnp.where(alone, 1.0, weight)[:, None]
  return mixed, own * examples.targets + (1 - own) * others.targets
