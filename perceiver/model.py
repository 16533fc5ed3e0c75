"""The Perceiver (section 3, appendix C).

Glossary of shapes:
- B: batch; M: input elements; C: input channels.
- N: latents; D: latent channels; H: heads.
- T: latent Transformers; L: self-attends in each.
"""

from collections.abc import Callable
import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from perceiver import ranges
from perceiver.blocks import (
  BlockOptions,
  CrossAttention,
  float32_parameters,
  LatentTransformer,
  QueryDecoder,
)
from perceiver.effects import Computation, Training
from perceiver.inputs import ByteArray, check
from perceiver.iteration import (
  in_turn,
  Iteration,
  latent_transformers_after,
)
from perceiver.ops import cross_attention, self_attention
from perceiver.ops.cross_attention import hardware
from perceiver.ranges import (
  Count,
  CountOrZero,
  FractionBelowOne,
  Positive,
  PositiveOrZero,
)

HEADS = ('mean', 'query')


@dataclasses.dataclass
class Perceiver(hk.Module):
  """Cross-attends to the input and latent Transformers, iterated.

  The defaults are the paper's ImageNet model (section 4.1).
  """

  num_classes: Count  # Of the classification head.
  num_latents: Count = 512  # N
  latent_channels: Count = 1024  # D
  num_latent_transformers: CountOrZero = 8  # T; 0: a stack as in Table 5.
  num_self_attends: Count = 6  # L, in each latent Transformer.
  num_cross_attends: Count = 8
  cross_attend_placement: str = 'interleaved'  # Or 'at_start' (Table 6).
  cross_attend_heads: Count = 1
  cross_attend_channels: Count | None = None  # Of Q, K and V; None: min(C, D).
  self_attend_heads: Count = 8
  # How cross-attends are computed: 'plain', 'no_kv' or 'factored' (see
  # `ops.cross_attention`), or 'auto' for the fastest. It changes no result.
  attention: Computation[str] = 'auto'
  # Queries that a cross-attend processes at once; None: by the hardware.
  attention_tile: Computation[Count | None] = None
  # Whether attention uses kernels, where the hardware has one for these shapes.
  attention_kernel: Computation[bool] = True
  # How latents attend to each other: 'plain', 'mosaic' on TPUs, 'cudnn' on GPUs
  # (see `ops.self_attention`), or 'auto' for the fastest that is known to be.
  self_attention: Computation[str] = 'auto'
  # Input of the last linear layer: the latents' 'mean' as in the paper, or what
  # a learned 'query' attends to, as in Perceiver IO (arXiv 2107.14795).
  head: str = 'mean'
  # Whether what that query finds is added to it. It is not in the authors'
  # model with learned positions.
  query_residual: bool = True
  share_cross_attends: bool = True  # From the second on; the first has its own.
  share_latent_transformers: bool = True  # All of them.
  widening_factor: Count = 1  # Of the dense blocks.
  # Of the dense blocks after cross-attends; None: as `widening_factor`.
  cross_attend_widening_factor: Count | None = None
  # Standard deviation of the initial latents, truncated at two.
  latent_init_scale: Training[Positive] = 0.02
  # Variance scaling of the linear layers.
  weight_init_scale: Training[Positive] = 1.0
  # Variance scaling of the head's; None: as `weight_init_scale`, 0: zeros.
  head_init_scale: Training[PositiveOrZero | None] = None
  # Applied to what blocks add to the residual stream; none in the paper.
  dropout_rate: Training[FractionBelowOne] = 0.0
  # Or 'bfloat16'; parameters stay float32.
  compute_dtype: Computation[str] = 'float32'
  # What the backward pass recomputes in each attention block: next to nothing
  # with 'none', or as a policy of `jax.checkpoint_policies` says, such as
  # 'nothing_saveable' or 'dots_with_no_batch_dims_saveable'.
  remat: Computation[str] = 'none'
  # Whether iterations that share weights are written out, which takes minutes
  # to compile, or one scan, which copies all that a backward pass needs. None:
  # in training, by the hardware. With dropout, the two draw other masks.
  unroll: Computation[bool | None] = None
  # Devices that the program is for; their axis 'data' splits the batch. None:
  # JAX's own, without kernels if there are several.
  mesh: Mesh | None = None
  name: str | None = None

  def __call__(self, inputs: ByteArray, is_training: bool = False) -> jax.Array:
    """Classifies the input.

    Args:
      inputs: the byte array, [B, M, C] in all.
      is_training: whether dropout applies; it needs a random key.

    Returns:
      [B, num_classes] logits, float32.

    Raises:
      TypeError: if `inputs` is not a byte array of real numbers.
      ValueError: if shapes or settings do not fit each other.
    """
    pooled = self.embed(inputs, is_training)
    scale = self.head_init_scale
    initializer = hk.initializers.VarianceScaling(
      self.weight_init_scale if scale is None else scale
    )
    return hk.Linear(self.num_classes, w_init=initializer, name='head')(pooled)

  @hk.name_like('__call__')
  def embed(self, inputs: ByteArray, is_training: bool = False) -> jax.Array:
    """Pools the last latents to an embedding [B, D] of each example, float32.

    The only linear layer after it makes the logits.
    """
    latents = self.encode(inputs, is_training)
    if self.head == 'query':
      options = self._block_options(widening_factor=1)
      decoder = QueryDecoder(
        options, self.latent_init_scale, self.query_residual, name='decoder'
      )
      with float32_parameters():
        return decoder(latents, is_training).astype(jnp.float32)
    # First the mean over the latents, then the only linear layer; v1 of the
    # paper had the opposite order (appendix F).
    return jnp.mean(latents.astype(jnp.float32), axis=1)

  def encode(self, inputs: ByteArray, is_training: bool = False) -> jax.Array:
    """Returns the last latents [B, N, D], in the compute dtype.

    Each iteration is a cross-attend to the same input, followed by its latent
    Transformers (section 3.1).
    """
    prepared = self.prepare(inputs)
    with float32_parameters():
      latents = self._initial_latents(inputs.batch_size)
      unroll = self.unroll
      if unroll is None:
        unroll = is_training and hardware.of(self.mesh).unroll
      return in_turn(
        self._iterations, unroll, latents, prepared, is_training, unroll
      )

  def prepare(self, inputs: ByteArray) -> cross_attention.Inputs:
    """Chooses the form of cross-attention, and prepares the input for it.

    All cross-attends share the result; no parameters are involved.

    Raises:
      TypeError, ValueError: as for the call.
    """
    check(inputs)
    method = cross_attention.choose(
      inputs,
      self.num_latents,
      self.cross_attend_heads,
      self.cross_attend_channels
      or min(inputs.num_channels, self.latent_channels),
      form=self.attention,
      tile=self.attention_tile,
      use_kernel=self.attention_kernel,
      mesh=self.mesh,
    )
    return cross_attention.prepare(
      inputs, method, jnp.dtype(self.compute_dtype)
    )

  def attention_queries(
    self, inputs: ByteArray
  ) -> list[cross_attention.InputQueries]:
    """Returns what each cross-attend looks for, in order.

    `attention_maps` turns them into the paper's attention maps (Fig. 3).
    """
    prepared = self.prepare(inputs)
    queries = []
    with float32_parameters():
      latents = self._initial_latents(inputs.batch_size)
      for iteration in self._iterations:
        queries.append(iteration.cross_attend.input_queries(latents, prepared))
        latents = iteration(latents, prepared, is_training=False)
    return queries

  def __post_init__(self) -> None:
    super().__post_init__(name=self.name)
    ranges.check(type(self), vars(self))
    if self.latent_channels % self.self_attend_heads:
      raise ValueError(
        f'latent_channels={self.latent_channels} are not divisible by'
        f' self_attend_heads={self.self_attend_heads}.'
      )
    if self.head not in HEADS:
      raise ValueError(f'head={self.head!r} is none of {HEADS}.')
    if self.head != 'query' and not self.query_residual:
      raise ValueError(
        f"query_residual=False needs head='query', not {self.head!r}."
      )
    self._iterations = self._build_iterations()

  def _block_options(self, widening_factor: int) -> BlockOptions:
    return BlockOptions(
      widening_factor, self.weight_init_scale, self.dropout_rate
    )

  @hk.transparent
  def _build_iterations(self) -> list[Iteration]:
    """Creates the modules; iterations that share weights share the module."""
    options = self._block_options(self.widening_factor)
    cross_options = self._block_options(
      self.cross_attend_widening_factor or self.widening_factor
    )
    iterations = []
    transformer = None
    num_transformers = 0
    for i, count in enumerate(
      latent_transformers_after(
        self.num_cross_attends,
        self.num_latent_transformers,
        self.cross_attend_placement,
      )
    ):
      # The first cross-attend has weights of its own, the others share theirs.
      if i < 2 or not self.share_cross_attends:
        cross_attend = CrossAttention(
          cross_options,
          num_heads=self.cross_attend_heads,
          num_channels=self.cross_attend_channels,
          name=f'cross_attend_{i}',
        )
      transformers = []
      for _ in range(count):
        if transformer is None or not self.share_latent_transformers:
          transformer = LatentTransformer(
            self.num_self_attends,
            self.self_attend_heads,
            options,
            self.remat,
            self._self_attention_kernel(),
            name=f'latent_transformer_{num_transformers}',
          )
        transformers.append(transformer)
        num_transformers += 1
      iterations.append(Iteration(cross_attend, transformers, self.remat))
    return iterations

  def _self_attention_kernel(self) -> Callable[..., jax.Array] | None:
    return self_attention.choose(
      self.self_attention,
      self.num_latents,
      self.latent_channels,
      self.self_attend_heads,
      jnp.dtype(self.compute_dtype).name,
      use_kernel=self.attention_kernel,
      mesh=self.mesh,
    )

  def _initial_latents(self, batch_size: int) -> jax.Array:  # [B, N, D]
    latents = hk.get_parameter(
      'latents',
      [self.num_latents, self.latent_channels],
      jnp.dtype(self.compute_dtype),
      hk.initializers.TruncatedNormal(self.latent_init_scale),
    )
    return jnp.broadcast_to(latents, (batch_size, *latents.shape))
