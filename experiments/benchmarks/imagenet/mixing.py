"""Mixup and CutMix: examples mixed with their neighbours in the batch.

Both run on the device, inside the training step: their draws follow from the
step's key, so they are the same for any number of processes and after a resume.
"""

import jax
import jax.numpy as jnp

NEIGHBOUR = 1  # Example i is mixed with example i - 1.


def mixup(
  images: jax.Array, key: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Averages each image with its neighbour (Zhang et al., 2018).

  Args:
    images: [B, H, W, C] floats.
    key: for the draws.
    alpha: the weights are drawn from Beta(alpha, alpha), one for each image.

  Returns:
    The mixed images, and [B]: the weight of each image's own part.
  """
  weight = jax.random.beta(key, alpha, alpha, images.shape[:1])
  own = weight[:, None, None, None]
  other = jnp.roll(images, NEIGHBOUR, axis=0)
  return own * images + (1 - own) * other, weight


def cutmix(images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Replaces a box of each image by its neighbour's (Yun et al., 2019).

  The box has the image's aspect, a uniform share of its area and a uniform
  centre; what lies outside the image is cut off.

  Args:
    images: [B, H, W, C] floats.
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
  other = jnp.roll(images, NEIGHBOUR, axis=0)
  mixed = jnp.where(box[..., None], other, images)
  return mixed, 1 - jnp.mean(box.astype(jnp.float32), axis=(1, 2))


def mix(
  images: jax.Array,
  targets: jax.Array,
  mask: jax.Array,
  key: jax.Array,
  *,
  mixup_alpha: float,
  use_cutmix: bool,
) -> tuple[jax.Array, jax.Array]:
  """Mixes images and targets; with both on, every second image by CutMix.

  Args:
    images: [B, H, W, C] floats.
    targets: [B, classes] probabilities.
    mask: [B] bool; nothing is mixed with an example that is masked out.
    key: for the draws.
    mixup_alpha: `alpha` of `mixup`; 0: no mixup.
    use_cutmix: whether to use `cutmix`.

  Returns:
    The mixed images and targets.
  """
  mixup_key, cutmix_key = jax.random.split(key)
  mixed, weight = images, jnp.ones(images.shape[:1])
  if mixup_alpha:
    mixed, weight = mixup(images, mixup_key, mixup_alpha)
  if use_cutmix:
    cut, cut_weight = cutmix(images, cutmix_key)
    is_cut = jnp.arange(len(images)) % 2 >= (1 if mixup_alpha else 0)
    mixed = jnp.where(is_cut[:, None, None, None], cut, mixed)
    weight = jnp.where(is_cut, cut_weight, weight)
  alone = ~jnp.roll(mask, NEIGHBOUR)
  mixed = jnp.where(alone[:, None, None, None], images, mixed)
  own = jnp.where(alone, 1.0, weight)[:, None]
  return mixed, own * targets + (1 - own) * jnp.roll(targets, NEIGHBOUR, axis=0)
