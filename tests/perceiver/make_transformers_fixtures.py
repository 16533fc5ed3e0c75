"""Writes small models of `transformers`, and their logits for some images.

They are what `perceiver.from_pretrained` is tested on where PyTorch is not
installed. To be run by hand where the extra [peers] is:

  python -m tests.perceiver.make_transformers_fixtures
"""

import functools
import pathlib

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / 'transformers'
KINDS = {'fourier': 'Fourier', 'learned': 'Learned', 'conv': 'ConvProcessing'}
LABELS = ('cat', 'dog', 'fox', 'hen', 'owl')
TANH, EXACT = 'gelu_new', 'gelu'  # The first is JAX's.
COMMON = {
  'num_blocks': 2,
  'num_self_attends_per_block': 2,
  'num_cross_attention_heads': 1,
  'id2label': dict(enumerate(LABELS)),
}
# Small, because they are checked in. All sizes differ, so that confusing two of
# them shows. The authors' models have 512 latents of 1024 channels.
SIZES = {
  'fourier': {
    **{'num_latents': 8, 'd_latents': 24, 'num_self_attention_heads': 4},
    **{'cross_attention_shape_for_attention': 'kv', 'd_model': 261},
  },
  'learned': {
    **{'num_latents': 6, 'd_latents': 16, 'num_self_attention_heads': 2},
    **{'cross_attention_shape_for_attention': 'q', 'd_model': 512},
    **{'cross_attention_widening_factor': 2, 'image_size': 10},
  },
  'conv': {
    **{'num_latents': 5, 'd_latents': 24, 'num_self_attention_heads': 4},
    **{'cross_attention_shape_for_attention': 'q', 'd_model': 322},
  },
}
NORMALIZATION = {
  'fourier': {},  # ImageNet's mean and deviation.
  'learned': {'image_mean': [0.5, 0.4, 0.3], 'image_std': [0.5, 0.3, 0.2]},
  'conv': {},
}
GRIDS = {
  'fourier': ((24, 24), (16, 20), (9, 13)),
  'learned': ((10, 10),),
  'conv': ((32, 32), (27, 36)),
}


def create(kind, seed, **sizes):
  """Makes a model in evaluation mode in which every parameter matters."""
  config = transformers.PerceiverConfig(hidden_act=TANH, **sizes)
  kind = getattr(transformers, f'PerceiverForImageClassification{KINDS[kind]}')
  model = kind(config)
  rng = np.random.default_rng(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      values = 0.2 * rng.normal(size=parameter.shape)
      if 'norm' in name and name.endswith('weight'):
        values += 1
      parameter.copy_(torch.from_numpy(values))
    for name, buffer in model.named_buffers():
      if name.endswith(('running_mean', 'running_var')):
        values = rng.uniform(0.2, 3, size=buffer.shape)
        buffer.copy_(torch.from_numpy(values))
  return model.eval()


def processor(size, **normalization):
  """An image processor that neither crops nor scales images of this size."""
  return transformers.PerceiverImageProcessor(
    size={'height': size, 'width': size},
    crop_size={'height': size, 'width': size},
    **normalization,
  )


def images(seed, grid):
  """Makes [2, H, W, 3] uint8 images: a color each, with noise."""
  rng = np.random.default_rng(seed)
  colors = rng.uniform(40, 216, size=(2, 1, 1, 3))
  noise = rng.normal(scale=60, size=(2, *grid, 3))
  return (colors + noise).clip(0, 255).round().astype(np.uint8)


def pixel_values(process, raw):
  """Returns [2, 3, H, W]: the network's input for images at their own size."""
  inputs = process(
    list(raw),
    do_resize=False,
    do_center_crop=False,
    input_data_format='channels_last',  # Not guessed.
    return_tensors='np',
  )
  return inputs['pixel_values'].astype(np.float32)


def logits(model, pixels, activation=None):
  """Returns logits [2, classes], optionally with another activation."""
  chosen = activation or model.config.hidden_act
  for module in model.modules():
    if hasattr(module, 'intermediate_act_fn'):
      module.intermediate_act_fn = transformers.activations.ACT2FN[chosen]
  with torch.inference_mode():
    return model(torch.from_numpy(pixels)).logits.numpy()


def save(model, process, folder):
  model.save_pretrained(folder)
  process.save_pretrained(folder)


def main():
  for seed, (kind, sizes) in enumerate(SIZES.items()):
    folder = FOLDER / kind
    model = create(kind, seed, **COMMON, **sizes)
    process = processor(sizes.get('image_size', 224), **NORMALIZATION[kind])
    save(model, process, folder)
    ask = functools.partial(logits, model)
    expected = {}
    for height, width in GRIDS[kind]:
      raw = images(seed, (height, width))
      pixels = pixel_values(process, raw)
      expected |= {
        f'images_{height}x{width}': raw,
        f'pixel_values_{height}x{width}': pixels,
        f'tanh_{height}x{width}': ask(pixels, TANH),
        f'exact_{height}x{width}': ask(pixels, EXACT),
      }
    np.savez_compressed(folder / 'expected.npz', **expected)


if __name__ == '__main__':
  main()
