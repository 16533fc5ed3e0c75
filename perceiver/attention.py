"""The modules that the Perceiver is stacked from (section 3.1, appendix C).

Glossary of shapes:
- B: batch; N: latents; D: latent channels.
- M: input elements; C: input channels; H: heads; F: channels per head.
"""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver.ops.attention import attend


def layer_norm(x: jax.Array, name: str) -> jax.Array:
  """Layer norm over the channels, its statistics in float32."""
  norm = hk.LayerNorm(-1, create_scale=True, create_offset=True, name=name)
  return norm(x.astype(jnp.float32)).astype(x.dtype)


@dataclasses.dataclass
class Block(hk.Module):
  """What cross-attends, self-attends and dense blocks have in common."""

  widening_factor: int = 1  # Hidden width of the dense block, in units of D.
  weight_init_scale: float = 1.0  # Variance scaling of every linear layer.
  dropout_rate: float = 0.0  # On what is added to the residual stream.
  name: str | None = None

  @hk.transparent
  def linear(self, size: int, name: str) -> hk.Linear:
    initializer = hk.initializers.VarianceScaling(self.weight_init_scale)
    return hk.Linear(size, w_init=initializer, name=name)

  def dropout(self, x: jax.Array, is_training: bool) -> jax.Array:
    if not is_training or self.dropout_rate == 0.0:
      return x
    return hk.dropout(hk.next_rng_key(), self.dropout_rate, x)


@dataclasses.dataclass
class DenseBlock(Block):
  """Layer norm, linear, GELU, linear; with its residual."""

  def __call__(self, x: jax.Array, is_training: bool) -> jax.Array:
    channels = x.shape[-1]
    h = layer_norm(x, 'layer_norm')
    h = self.linear(self.widening_factor * channels, 'linear_0')(h)
    h = jax.nn.gelu(h)  # The tanh form, as in GPT-2.
    h = self.linear(channels, 'linear_1')(h)
    return x + self.dropout(h, is_training)  # [B, N, D]


@dataclasses.dataclass
class AttentionBlock(Block):
  """Attention with its residual, then a dense block with its own."""

  num_heads: int = 1

  @hk.transparent
  def attend(
    self,
    latents: jax.Array,  # [B, N, D]
    queries: jax.Array,  # [B, N, D], normed.
    inputs: jax.Array,  # [B, M, C], normed.
    num_channels: int,  # H F, of queries, keys and values.
    mask: jax.Array | None,  # [B, M]
    is_training: bool,
  ) -> tuple[jax.Array, jax.Array]:  # [B, N, D], logits [B, H, N, M]
    if num_channels % self.num_heads:
      raise ValueError(
        f'{self.name}: {num_channels} channels of queries, keys and values'
        f' are not divisible by {self.num_heads} heads.'
      )

    def project(x: jax.Array, name: str) -> jax.Array:
      x = self.linear(num_channels, name)(x)
      return x.reshape(*x.shape[:-1], self.num_heads, -1)  # [B, ., H, F]

    attended, logits = attend(
      project(queries, 'query'),
      project(inputs, 'key'),
      project(inputs, 'value'),
      mask,
    )
    attended = attended.reshape(*latents.shape[:-1], num_channels)
    out = self.linear(latents.shape[-1], 'output')(attended)  # [B, N, D]
    latents = latents + self.dropout(out, is_training)
    dense_block = DenseBlock(
      self.widening_factor,
      self.weight_init_scale,
      self.dropout_rate,
      name='dense_block',
    )
    return dense_block(latents, is_training), logits


@dataclasses.dataclass
class CrossAttention(AttentionBlock):
  """Latents attend to the input; the paper uses one head, min(C, D) wide."""

  num_channels: int | None = None  # Of queries, keys and values: min(C, D).

  def __call__(
    self,
    latents: jax.Array,  # [B, N, D]
    inputs: jax.Array,  # [B, M, C]
    mask: jax.Array | None,  # [B, M], True where an element exists.
    is_training: bool,
  ) -> tuple[jax.Array, jax.Array]:  # [B, N, D], logits [B, H, N, M]
    """Returns the new latents and the attention logits (float32)."""
    queries = layer_norm(latents, 'latent_norm')
    inputs = layer_norm(inputs, 'input_norm')
    num_channels = self.num_channels or min(inputs.shape[-1], latents.shape[-1])
    return self.attend(
      latents, queries, inputs, num_channels, mask, is_training
    )


@dataclasses.dataclass
class SelfAttention(AttentionBlock):
  """One pre-norm module of the latent Transformer, as in GPT-2."""

  def __call__(self, latents: jax.Array, is_training: bool) -> jax.Array:
    """Returns the new latents, [B, N, D]."""
    normed = layer_norm(latents, 'layer_norm')
    latents, _ = self.attend(
      latents, normed, normed, latents.shape[-1], None, is_training
    )
    return latents
