"""Building blocks of the Perceiver (section 3.1, appendix C).

Glossary of shapes:
- B: batch; N: latents; D: latent channels.
- M: input elements; C: input channels; H: heads; F: channels per head.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver.ops import attention, cross_attention
from perceiver.ops.cross_attention import factored

# Layer norm, GELU and the weights of self-attention (N x N) are most of what a
# backward pass would keep, and cheap, so it computes them again. The following
# linear layer is part of the same function, so that the result of the norm or
# GELU is not kept either; the product itself is not computed again.
_recompute = hk.remat


def remat(
  function: Callable[[jax.Array], jax.Array], policy: str
) -> Callable[[jax.Array], jax.Array]:
  """Makes the backward pass recompute `function`, except what a policy keeps.

  Args:
    function: of the latents.
    policy: 'none' to keep everything, or the name of a policy in
      `jax.checkpoint_policies`.

  Raises:
    ValueError: for an unknown policy.
  """
  if policy == 'none':
    return function
  if not hasattr(jax.checkpoint_policies, policy):
    raise ValueError(
      f"remat={policy!r} is neither 'none' nor a policy of"
      ' jax.checkpoint_policies.'
    )
  policies = jax.checkpoint_policies
  return hk.remat(
    function,
    policy=policies.save_from_both_policies(
      getattr(policies, policy),
      policies.save_only_these_names(factored.SAVED),
    ),
  )


@contextlib.contextmanager
def float32_parameters():
  """Keeps parameters in float32; modules get them in the dtype they ask for."""

  def create(next_creator, shape, dtype, init, context):
    del dtype, context
    return next_creator(shape, jnp.float32, init)

  def cast(next_getter, value, context):
    return next_getter(value.astype(context.original_dtype))

  with hk.custom_creator(create), hk.custom_getter(cast):
    yield


@dataclasses.dataclass
class LayerNormParameters(hk.Module):
  """Creates the parameters of `hk.LayerNorm` without applying them."""

  name: str | None = None

  def __call__(self, size: int) -> tuple[jax.Array, jax.Array]:
    scale = hk.get_parameter('scale', [size], init=jnp.ones)
    offset = hk.get_parameter('offset', [size], init=jnp.zeros)
    return scale, offset


@dataclasses.dataclass
class LinearParameters(hk.Module):
  """Creates the parameters of `hk.Linear` without applying them."""

  output_size: int
  w_init: hk.initializers.Initializer
  name: str | None = None

  def __call__(
    self, input_size: int, dtype: jnp.dtype = jnp.float32
  ) -> tuple[jax.Array, jax.Array]:
    shape = [input_size, self.output_size]
    w = hk.get_parameter('w', shape, dtype, self.w_init)
    b = hk.get_parameter('b', [self.output_size], dtype, jnp.zeros)
    return w, b


def layer_norm(x: jax.Array, name: str) -> jax.Array:
  """Applies layer norm over the channels, in float32; returns x's dtype."""
  scale, offset = LayerNormParameters(name)(x.shape[-1])
  return attention.layer_norm(x, scale, offset)


@dataclasses.dataclass(frozen=True)
class BlockOptions:
  """Options that all blocks of a model share."""

  widening_factor: int = 1  # Hidden width of the dense block, in units of D.
  weight_init_scale: float = 1.0  # Variance scaling of every linear layer.
  dropout_rate: float = 0.0  # Applied to what is added to the residual stream.


@dataclasses.dataclass
class Block(hk.Module):
  """Base class of cross-attends, self-attends and dense blocks."""

  options: BlockOptions
  name: str | None = None

  @hk.transparent
  def linear(self, size: int, name: str) -> Callable[[jax.Array], jax.Array]:
    scale = self.options.weight_init_scale
    initializer = hk.initializers.VarianceScaling(scale)
    parameters = LinearParameters(size, initializer, name)
    return lambda x: attention.linear(x, *parameters(x.shape[-1], x.dtype))

  def dropout(self, x: jax.Array, is_training: bool) -> jax.Array:
    if not is_training or self.options.dropout_rate == 0.0:
      return x
    return hk.dropout(hk.next_rng_key(), self.options.dropout_rate, x)


@dataclasses.dataclass
class DenseBlock(Block):
  """Layer norm, linear, GELU, linear; with its residual."""

  def __call__(self, x: jax.Array, is_training: bool) -> jax.Array:
    channels = x.shape[-1]
    first = self.linear(self.options.widening_factor * channels, 'linear_0')
    second = self.linear(channels, 'linear_1')
    h = _recompute(lambda x: first(layer_norm(x, 'layer_norm')))(x)
    # GELU in the tanh form, as in GPT-2.
    h = _recompute(lambda h: second(jax.nn.gelu(h)))(h)
    return x + self.dropout(h, is_training)  # [B, N, D]


@dataclasses.dataclass
class AttentionBlock(Block):
  """Attention with its residual, then a dense block with its own."""

  num_heads: int = 1

  @hk.transparent
  def add(
    self,
    latents: jax.Array,  # [B, N, D]
    attended: jax.Array,  # [B, N, H, F] or [B, N, H F]
    is_training: bool,
    residual: bool = True,
  ) -> jax.Array:  # [B, N, D]
    """Adds the output layer's result, then the dense block's.

    Without `residual`, the former replaces the latents.
    """
    attended = attended.reshape(
      *latents.shape[:-1], math.prod(attended.shape[2:])
    )
    out = self.linear(latents.shape[-1], 'output')(attended)
    out = self.dropout(out, is_training)
    latents = latents + out if residual else out
    return DenseBlock(self.options, name='dense_block')(latents, is_training)

  @hk.transparent
  def split_heads(self, x: jax.Array) -> jax.Array:  # [B, ., H, F]
    if x.shape[-1] % self.num_heads:
      raise ValueError(
        f'{self.name}: {x.shape[-1]} channels of queries, keys and values'
        f' are not divisible by {self.num_heads} heads.'
      )
    width = x.shape[-1] // self.num_heads
    return x.reshape(*x.shape[:-1], self.num_heads, width)


@dataclasses.dataclass
class CrossAttention(AttentionBlock):
  """Latents attend to the input; the paper uses one head, min(C, D) wide."""

  num_channels: int | None = None  # Of queries, keys, values; None: min(C, D).
  residual: bool = True  # Whether what is attended to is added to the latents.

  def __call__(
    self,
    latents: jax.Array,  # [B, N, D]
    inputs: cross_attention.Inputs,  # Of M elements with C channels.
    is_training: bool,
  ) -> jax.Array:  # [B, N, D]
    """Returns the new latents."""
    query, parameters = self._project(latents, inputs.num_channels)
    attended = cross_attention.cross_attend(query, inputs, parameters)
    return self.add(latents, attended, is_training, self.residual)

  @hk.name_like('__call__')
  def input_queries(
    self,
    latents: jax.Array,  # [B, N, D]
    inputs: cross_attention.Inputs,
  ) -> cross_attention.InputQueries:
    """Returns what the latents look for in the input, for attention maps."""
    return cross_attention.input_queries(
      *self._project(latents, inputs.num_channels)
    )

  @hk.transparent
  def _project(
    self, latents: jax.Array, input_channels: int
  ) -> tuple[jax.Array, cross_attention.Parameters]:
    """Returns queries [B, N, H, F], and the parameters for keys and values."""
    num_channels = self.num_channels or min(input_channels, latents.shape[-1])
    project = self.linear(num_channels, 'query')
    query = self.split_heads(
      _recompute(lambda x: project(layer_norm(x, 'latent_norm')))(latents)
    )
    w_init = hk.initializers.VarianceScaling(self.options.weight_init_scale)
    parameters = cross_attention.Parameters(
      *LayerNormParameters('input_norm')(input_channels),
      *LinearParameters(num_channels, w_init, 'key')(input_channels),
      *LinearParameters(num_channels, w_init, 'value')(input_channels),
    )
    return query, parameters


@dataclasses.dataclass
class SelfAttention(AttentionBlock):
  """One pre-norm module of the latent Transformer, as in GPT-2."""

  # Computes attended values [B, N, D] from queries, keys and values [B, N, D]
  # with heads side by side; None: `ops.attention.self_attend`.
  kernel: Callable[..., jax.Array] | None = None

  def __call__(self, latents: jax.Array, is_training: bool) -> jax.Array:
    """Returns the new latents, [B, N, D]."""

    def project(latents):
      normed = layer_norm(latents, 'layer_norm')
      return tuple(
        self.linear(latents.shape[-1], name)(normed)
        for name in ('query', 'key', 'value')
      )

    query, key, value = _recompute(project)(latents)
    if self.kernel is not None and len(latents) > 0:
      attended = self.kernel(query, key, value)
    else:
      heads = map(self.split_heads, (query, key, value))
      attended = attention.self_attend(*heads)
    return self.add(latents, attended, is_training)


@dataclasses.dataclass
class LatentTransformer(hk.Module):
  """L self-attends over the latents."""

  num_self_attends: int  # L
  num_heads: int
  options: BlockOptions
  remat: str = 'none'
  kernel: Callable[..., jax.Array] | None = None  # See `SelfAttention`.
  name: str | None = None

  def __call__(
    self,
    latents: jax.Array,  # [B, N, D]
    is_training: bool,
  ) -> jax.Array:  # [B, N, D]
    for i in range(self.num_self_attends):
      self_attend = SelfAttention(
        self.options,
        num_heads=self.num_heads,
        kernel=self.kernel,
        name=f'self_attend_{i}',
      )
      body = lambda x, f=self_attend: f(x, is_training)
      latents = remat(body, self.remat)(latents)
    return latents


@dataclasses.dataclass
class QueryDecoder(hk.Module):
  """A learned query that attends to the latents, as in Perceiver IO.

  It has one head as wide as the latents (arXiv 2107.14795, section 3.2).
  """

  options: BlockOptions
  init_scale: float  # Standard deviation of the query, truncated at two.
  residual: bool = True  # Whether what it finds is added to the query.
  name: str | None = None

  def __call__(
    self,
    latents: jax.Array,  # [B, N, D]
    is_training: bool,
  ) -> jax.Array:  # [B, D]
    batch_size, _, channels = latents.shape
    initializer = hk.initializers.TruncatedNormal(self.init_scale)
    query = hk.get_parameter('query', [1, channels], latents.dtype, initializer)
    query = jnp.broadcast_to(query, (batch_size, *query.shape))  # [B, 1, D]
    normed = attention.normalize(latents).astype(latents.dtype)
    cross_attend = CrossAttention(
      self.options,
      num_channels=channels,
      residual=self.residual,
      name='cross_attend',
    )
    inputs = cross_attention.PlainInputs(normed, mask=None)
    return cross_attend(query, inputs, is_training)[:, 0]
