"""Other Perceivers that a user might pick, at the paper's ImageNet size.

They run on CPU PyTorch (extra [peers]) and are only used by the benchmark.
"""

from collections.abc import Callable
import importlib.util
import os
import time
from typing import Any

from perceiver import cost

PACKAGES = ('torch', 'transformers', 'perceiver_pytorch')
NUM_INPUTS, CHANNELS = 224 * 224, 261
# What our count of FLOPs says of each, by the arguments of our own model.
FLOPS_AS = {
  'transformers': {'num_classes': 1000, 'num_cross_attends': 1},
  'perceiver-pytorch': {
    'num_classes': 1000,
    'widening_factor': 6,  # Gated: 8 D in and 4 D out, of our 2 D for one.
  },
}
NAMES = tuple(FLOPS_AS)


def check_installed() -> None:
  """Raises ImportError if a package is missing."""
  missing = [p for p in PACKAGES if importlib.util.find_spec(p) is None]
  if missing:
    raise ImportError(f'--peers needs {", ".join(missing)}')


def prepare(name: str, mode: str, batch_size: int) -> dict[str, Any]:
  """Builds a peer's model and its step on random input.

  Args:
    name: one of `NAMES`.
    mode: 'forward', or 'train' with AdamW.
    batch_size: images of 224 x 224.

  Returns:
    The fields of `benchmark.Prepared`.
  """
  import torch

  torch.set_num_threads(os.cpu_count() or 1)
  torch.manual_seed(0)
  start = time.perf_counter()
  model, classify, note = _BUILDERS[name]()
  images = torch.randn(batch_size, 3, 224, 224)
  labels = torch.randint(1000, (batch_size,))
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

  def train() -> None:
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(classify(images), labels)
    loss.backward()
    optimizer.step()

  def forward() -> None:
    with torch.inference_mode():
      classify(images)

  model.train(mode == 'train')
  flops = cost.perceiver_flops(FLOPS_AS[name], NUM_INPUTS, CHANNELS)
  return {
    'step': train if mode == 'train' else forward,
    'parameters': sum(p.numel() for p in model.parameters()),
    'flops': batch_size * flops * (3 if mode == 'train' else 1),
    'compile_s': time.perf_counter() - start,
    'compiler_bytes': None,
    'note': note,
  }


def _transformers() -> tuple[Any, Callable[[Any], Any], str]:
  import transformers

  config = transformers.PerceiverConfig(
    num_latents=512,
    d_latents=1024,
    num_blocks=8,
    num_self_attends_per_block=6,
    num_self_attention_heads=8,
    num_cross_attention_heads=1,
    cross_attention_shape_for_attention='kv',
    self_attention_widening_factor=1,
    cross_attention_widening_factor=1,
    attention_probs_dropout_prob=0.0,
    image_size=224,
  )
  config.num_labels = 1000
  model = transformers.PerceiverForImageClassificationFourier(config)
  classify = lambda x: model(inputs=x).logits
  return model, classify, '1 cross-attend, decoder with a query'


def _perceiver_pytorch() -> tuple[Any, Callable[[Any], Any], str]:
  import perceiver_pytorch

  model = perceiver_pytorch.Perceiver(
    num_freq_bands=64,
    max_freq=224.0,
    depth=8,
    input_channels=3,
    input_axis=2,
    num_latents=512,
    latent_dim=1024,
    cross_heads=1,
    cross_dim_head=261,
    latent_heads=8,
    latent_dim_head=128,
    self_per_cross_attn=6,
    num_classes=1000,
    weight_tie_layers=True,
  )
  classify = lambda x: model(x.movedim(1, -1))
  return model, classify, '8 cross-attends, gated dense blocks 4 times as wide'


_BUILDERS = {
  'transformers': _transformers,
  'perceiver-pytorch': _perceiver_pytorch,
}
