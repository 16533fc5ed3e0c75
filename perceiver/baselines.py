"""The paper's baselines, fed the same byte array (Tables 1, 2, 4).

Each sees its input as an image [B, H, W, C] whose C channels are content and
position features ("FF" in the tables), and returns float32 logits.

Glossary of shapes:
- B: batch; H, W: the grid; C: input channels.
- S: elements of a sequence; D: channels of its elements; P: patch size.
"""

from collections.abc import Sequence
import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
import jmp

from perceiver import ranges
from perceiver.blocks import (
  BlockOptions,
  float32_parameters,
  LatentTransformer,
  layer_norm,
)
from perceiver.effects import Computation, Training
from perceiver.inputs import ByteArray, check
from perceiver.ranges import Count, FractionBelowOne, Positive


def image(inputs: ByteArray) -> jax.Array:
  """Returns the byte array's only segment as [B, H, W, C].

  Raises:
    ValueError: if there are several, or its grid is not two-dimensional.
  """
  check(inputs)
  grids = [segment.grid for segment in inputs.segments]
  if len(grids) != 1 or len(grids[0]) != 2:
    raise ValueError(f'Baselines take one 2-D grid of inputs, got {grids}.')
  array = inputs.to_array()
  return array.reshape(len(array), *grids[0], array.shape[-1])


@dataclasses.dataclass
class ResNet(hk.Module):
  """ResNet v1 (He et al., 2016); the defaults are ResNet-50's."""

  num_classes: Count
  blocks: Sequence[Count] = (3, 4, 6, 3)  # In each of the four groups.
  channels: Sequence[Count] = (256, 512, 1024, 2048)  # In each group.
  stem_channels: Count = 64
  stem_stride: Count = 2
  # Or 'bfloat16'; batch norm stays float32.
  compute_dtype: Computation[str] = 'float32'
  name: str | None = None

  def __post_init__(self) -> None:
    super().__post_init__(name=self.name)
    ranges.check(type(self), vars(self))

  def __call__(self, inputs: ByteArray, is_training: bool = False) -> jax.Array:
    """Returns [B, num_classes] logits. Raises ValueError for a wrong grid."""
    dtype = jnp.dtype(self.compute_dtype)
    network = hk.nets.ResNet(
      self.blocks,
      self.num_classes,
      channels_per_group=self.channels,
      initial_conv_config={
        'output_channels': self.stem_channels,
        'stride': self.stem_stride,
      },
      # Haiku's zeros would grow by LAMB's learning rate a step, from nothing.
      logits_config={'w_init': None},
    )
    # Averages over the batch and their running means need float32.
    policy = jmp.Policy(
      param_dtype=jnp.float32, compute_dtype=jnp.float32, output_dtype=dtype
    )
    with (
      float32_parameters(),
      hk.mixed_precision.push_policy(hk.BatchNorm, policy),
    ):
      logits = network(image(inputs).astype(dtype), is_training)
    return logits.astype(jnp.float32)


@dataclasses.dataclass
class VisionTransformer(hk.Module):
  """ViT (Dosovitskiy et al., 2021); the defaults are ViT-B/16's."""

  num_classes: Count
  patch_size: Count = 16  # P
  channels: Count = 768  # D
  num_self_attends: Count = 12
  self_attend_heads: Count = 12
  widening_factor: Count = 4
  weight_init_scale: Training[Positive] = 1.0
  dropout_rate: Training[FractionBelowOne] = 0.0
  compute_dtype: Computation[str] = 'float32'
  remat: Computation[str] = 'none'  # As in `Perceiver`.
  name: str | None = None

  def __post_init__(self) -> None:
    super().__post_init__(name=self.name)
    ranges.check(type(self), vars(self))

  def __call__(self, inputs: ByteArray, is_training: bool = False) -> jax.Array:
    """Returns [B, num_classes] logits.

    Raises:
      ValueError: for a wrong grid, or one that patches do not divide.
    """
    x = image(inputs).astype(self.compute_dtype)
    if x.shape[1] % self.patch_size or x.shape[2] % self.patch_size:
      raise ValueError(
        f'patch_size={self.patch_size} does not divide the grid {x.shape[1:3]}.'
      )
    initializer = hk.initializers.VarianceScaling(self.weight_init_scale)
    small = hk.initializers.TruncatedNormal(0.02)
    with float32_parameters():
      x = hk.Conv2D(
        self.channels,
        kernel_shape=self.patch_size,
        stride=self.patch_size,
        padding='VALID',
        w_init=initializer,
        name='patches',
      )(x)
      x = x.reshape(
        x.shape[0], math.prod(x.shape[1:3]), self.channels
      )  # [B, S - 1, D]
      token = hk.get_parameter(
        'class_token', [1, 1, self.channels], x.dtype, small
      )
      token = jnp.broadcast_to(token, (x.shape[0], 1, self.channels))
      x = jnp.concatenate([token, x], axis=1)  # [B, S, D]
      x = x + hk.get_parameter('positions', [1, *x.shape[1:]], x.dtype, small)
      x = _transformer(self, x, is_training)
      x = layer_norm(x[:, 0].astype(jnp.float32), 'layer_norm')
    return hk.Linear(self.num_classes, w_init=initializer, name='head')(x)


@dataclasses.dataclass
class Transformer(hk.Module):
  """The latent Transformer's modules, applied to the inputs and mean-pooled.

  Its cost grows with the square of the number of inputs, so the paper gives it
  64 x 64 pixels. The paper does not state width and depth; the defaults are
  those of one latent Transformer.
  """

  num_classes: Count
  channels: Count = 1024  # D
  num_self_attends: Count = 6
  self_attend_heads: Count = 8
  widening_factor: Count = 1
  weight_init_scale: Training[Positive] = 1.0
  dropout_rate: Training[FractionBelowOne] = 0.0
  compute_dtype: Computation[str] = 'float32'
  remat: Computation[str] = 'none'  # As in `Perceiver`.
  name: str | None = None

  def __post_init__(self) -> None:
    super().__post_init__(name=self.name)
    ranges.check(type(self), vars(self))

  def __call__(self, inputs: ByteArray, is_training: bool = False) -> jax.Array:
    """Returns [B, num_classes] logits."""
    check(inputs)
    x = inputs.to_array().astype(self.compute_dtype)  # [B, S, C]
    initializer = hk.initializers.VarianceScaling(self.weight_init_scale)
    with float32_parameters():
      x = hk.Linear(self.channels, w_init=initializer, name='embedding')(x)
      x = _transformer(self, x, is_training)
    pooled = jnp.mean(x.astype(jnp.float32), axis=1)  # [B, D]
    return hk.Linear(self.num_classes, w_init=initializer, name='head')(pooled)


def _transformer(
  model: VisionTransformer | Transformer, x: jax.Array, is_training: bool
) -> jax.Array:
  """Applies the model's self-attends to [B, S, D]."""
  options = BlockOptions(
    model.widening_factor, model.weight_init_scale, model.dropout_rate
  )
  transformer = LatentTransformer(
    model.num_self_attends,
    model.self_attend_heads,
    options,
    model.remat,
    name='transformer',
  )
  return transformer(x, is_training)
