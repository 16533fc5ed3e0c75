"""The form of the latents' self-attention: arrays, or a kernel."""

from collections.abc import Callable
import functools

import jax
from jax.sharding import Mesh

from perceiver.ops import self_attention_gpu, self_attention_tpu
from perceiver.ops.cross_attention import hardware

KERNELS = {'mosaic': self_attention_tpu, 'cudnn': self_attention_gpu}
FORMS = ('plain', *KERNELS)


def choose(
  form: str,
  num_latents: int,
  num_channels: int,
  num_heads: int,
  dtype: str,
  *,
  use_kernel: bool = True,
  mesh: Mesh | None = None,
) -> Callable[..., jax.Array] | None:
  """Chooses how self-attention is computed.

  Args:
    form: one of `FORMS`, or 'auto' for the hardware's kernel, where it suits.
    num_latents: N.
    num_channels: D, of all heads.
    num_heads: H.
    dtype: the dtype to compute in.
    use_kernel: whether 'auto' may choose a kernel.
    mesh: the devices that the program is for; None: JAX's own.

  Returns:
    A function from queries, keys and values [B, N, D], with heads side by side,
    to the attended values [B, N, D]. None stands for the plain form,
    `attention.self_attend`.

  Raises:
    ValueError: if the form is unknown, or is a kernel that cannot run.
  """
  if form not in ('auto', *FORMS):
    raise ValueError(f'self_attention={form!r} is none of {("auto", *FORMS)}.')
  if form == 'plain' or (form == 'auto' and not use_kernel):
    return None
  facts = hardware.of(mesh)
  kernel = facts.self_attention.get(form)
  if (
    kernel is not None
    and dtype in kernel.DTYPES
    and kernel.suits(num_latents, num_channels, num_heads)
  ):
    attend = functools.partial(kernel.attend, num_heads=num_heads)
    return hardware.on_each_device(attend, mesh)
  if form == 'auto':
    return None
  needed = KERNELS[form]
  raise ValueError(
    f'self_attention={form!r} needs {needed.NEEDS}, in'
    f' {" or ".join(needed.DTYPES)}, and for several devices a mesh. Here are'
    f' {num_latents} latents with {num_heads} heads of'
    f' {num_channels // num_heads} channels in {dtype}, on {facts.platform}.'
    " 'auto' runs everywhere."
  )
