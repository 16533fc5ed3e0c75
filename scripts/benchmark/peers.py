"""Builds other Perceivers that users might choose, for a config on images.

They run in PyTorch (extra [peers]); only the benchmark uses them.
"""

from collections.abc import Callable, Sequence
import dataclasses
import importlib.util
import os
import time
from typing import Any

from ml_collections import ConfigDict

from experiments import models
from perceiver import cost
from scripts.benchmark.contenders import Prepared

PACKAGES = ('torch', 'transformers', 'perceiver_pytorch')


@dataclasses.dataclass(frozen=True)
class Size:
  """The size of a Perceiver for images, in arguments that the peers have."""

  grid: tuple[int, int]  # Pixels.
  colors: int
  num_bands: int
  num_classes: int
  num_latents: int
  latent_channels: int
  num_latent_transformers: int
  num_self_attends: int
  num_cross_attends: int
  self_attend_heads: int
  share_latent_transformers: bool
  head: str

  @property
  def num_inputs(self) -> int:
    return self.grid[0] * self.grid[1]

  @property
  def num_channels(self) -> int:
    return self.colors + 2 * (2 * self.num_bands + 1)


def size_of(config: ConfigDict) -> Size:
  """Returns a config's size. Raises ValueError if no peer can have it."""
  if config.model.name != 'perceiver' or 'num_bands' not in config.task:
    raise ValueError('--peers are for Perceivers on images.')
  inputs = models.input_shapes(config)
  segment = inputs.segments[0]
  if len(inputs.segments) > 1 or len(segment.grid) != 2:
    raise ValueError('--peers are for Perceivers on images.')
  names = {field.name for field in dataclasses.fields(Size)}
  size = Size(
    grid=segment.grid,
    colors=segment.content.shape[-1],
    num_bands=config.task.num_bands,
    **{name: x for name, x in config.model.items() if name in names},
  )
  if size.num_channels != inputs.num_channels:
    raise ValueError('--peers are for Fourier features alone.')
  if size.num_latent_transformers % size.num_cross_attends:
    raise ValueError(
      '--peers need as many self-attends after each cross-attend:'
      f' {size.num_cross_attends} do not divide'
      f' {size.num_latent_transformers} latent Transformers.'
    )
  return size


def check_installed(packages: Sequence[str] = PACKAGES) -> None:
  """Raises ImportError if a package is missing."""
  missing = [p for p in packages if importlib.util.find_spec(p) is None]
  if missing:
    raise ImportError(f'--peers needs {", ".join(missing)}')


def left_out(size: Size) -> dict[str, str]:
  """Returns the peers that have no such model, with the reasons."""
  if size.head == 'mean':
    return {}
  return {'perceiver-pytorch': f'it has no head={size.head!r}'}


def prepare(
  name: str, mode: str, batch_size: int, size: Size, device: str = 'cpu'
) -> Prepared:
  """Builds a peer's model and its step on random input.

  `name` is one of `NAMES`; `mode` is 'forward', or 'train' with AdamW. On the
  device 'cuda' it computes in bfloat16, as `torch.autocast` does.
  """
  import torch

  torch.set_num_threads(os.cpu_count() or 1)
  torch.manual_seed(0)
  start = time.perf_counter()
  model, classify, note, differs = _BUILDERS[name](size)
  model.to(device)
  images = torch.randn(batch_size, size.colors, *size.grid, device=device)
  labels = torch.randint(size.num_classes, (batch_size,), device=device)
  on_gpu = device == 'cuda'
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=on_gpu)
  cast = lambda: torch.autocast(device, torch.bfloat16, enabled=on_gpu)

  def train() -> None:
    optimizer.zero_grad()
    with cast():
      loss = torch.nn.functional.cross_entropy(classify(images), labels)
    loss.backward()
    optimizer.step()
    wait()

  def forward() -> None:
    with torch.inference_mode(), cast():
      classify(images)
    wait()

  def wait() -> None:
    if on_gpu:
      torch.cuda.synchronize()

  model.train(mode == 'train')
  # Our count of FLOPs, from the arguments of our own model.
  arguments = dataclasses.asdict(size)
  flops = cost.perceiver_flops(
    arguments | differs, size.num_inputs, size.num_channels
  )
  return Prepared(
    step=train if mode == 'train' else forward,
    parameters=sum(p.numel() for p in model.parameters()),
    flops=batch_size * flops * (3 if mode == 'train' else 1),
    compile_s=time.perf_counter() - start,
    compiler_bytes=None,
    note=note,
  )


Built = tuple[Any, Callable[[Any], Any], str, dict[str, Any]]


def _transformers(size: Size) -> Built:
  import transformers
  from transformers.models.perceiver import modeling_perceiver as modules

  latent_channels = size.latent_channels
  config = transformers.PerceiverConfig(
    num_latents=size.num_latents,
    d_latents=latent_channels,
    d_model=size.num_channels,
    num_blocks=size.num_latent_transformers,
    num_self_attends_per_block=size.num_self_attends,
    num_self_attention_heads=size.self_attend_heads,
    num_cross_attention_heads=1,
    # Ours attends in the smaller number of channels.
    cross_attention_shape_for_attention=(
      'kv' if size.num_channels <= latent_channels else 'q'
    ),
    self_attention_widening_factor=1,
    cross_attention_widening_factor=1,
    attention_probs_dropout_prob=0.0,
  )
  config.num_labels = size.num_classes
  # As in `PerceiverForImageClassificationFourier`, which has one size.
  preprocessor = modules.PerceiverImagePreprocessor(
    config,
    prep_type='pixels',
    spatial_downsample=1,
    in_channels=size.colors,
    fourier_position_encoding_kwargs={
      'concat_pos': True,
      'max_resolution': size.grid,
      'num_bands': size.num_bands,
      'sine_only': False,
    },
  )
  decoder = modules.PerceiverClassificationDecoder(
    config,
    num_channels=latent_channels,
    trainable_position_encoding_kwargs={
      'num_channels': latent_channels,
      'index_dims': 1,
    },
    use_query_residual=True,
  )
  model = transformers.PerceiverModel(
    config, input_preprocessor=preprocessor, decoder=decoder
  )
  classify = lambda x: model(inputs=x).logits
  own: dict[str, Any] = {'num_cross_attends': 1, 'head': 'query'}
  is_ours = dataclasses.replace(size, **own) == size
  note = '' if is_ours else '1 cross-attend, decoder with a query'
  return model, classify, note, own


def _perceiver_pytorch(size: Size) -> Built:
  import perceiver_pytorch

  transformers_each = size.num_latent_transformers // size.num_cross_attends
  model = perceiver_pytorch.Perceiver(
    num_freq_bands=size.num_bands,
    max_freq=float(size.grid[0]),
    depth=size.num_cross_attends,
    input_channels=size.colors,
    input_axis=2,
    num_latents=size.num_latents,
    latent_dim=size.latent_channels,
    cross_heads=1,
    cross_dim_head=size.num_channels,
    latent_heads=size.self_attend_heads,
    latent_dim_head=size.latent_channels // size.self_attend_heads,
    self_per_cross_attn=transformers_each * size.num_self_attends,
    num_classes=size.num_classes,
    weight_tie_layers=size.share_latent_transformers,
  )
  classify = lambda x: model(x.movedim(1, -1))
  # Gated: 8 D in and 4 D out, where we have 2 D for widening factor 1.
  note = 'gated dense blocks 4 times as wide'
  return model, classify, note, {'widening_factor': 6}


_BUILDERS = {
  'transformers': _transformers,
  'perceiver-pytorch': _perceiver_pytorch,
}
NAMES = tuple(_BUILDERS)
