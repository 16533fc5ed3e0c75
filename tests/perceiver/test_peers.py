"""Models of `transformers` give the same logits here, in many sizes.

Needs the extra [peers]; of some of them the files are checked in, see
`make_transformers_fixtures`, and tested everywhere.
"""

import json

import numpy as np
import pytest

import perceiver

pytest.importorskip('torch')
pytest.importorskip('transformers')

from tests.perceiver import make_transformers_fixtures as theirs

# Relative to the largest logit. transformers computes Fourier features in
# float32: an angle of up to 112π has an error of 2e-5. With angles in float64,
# PyTorch's logits for the fixtures changed by up to 9e-6. The rest is float32
# rounding: measured 1.4e-6.
TOLERANCE = 1e-5
# The exact GELU and its approximation with tanh differ by up to 5e-4 in each
# dense block: measured 2.5e-4 in the logits.
EXACT_TOLERANCE = 2e-3


def draw(kind, seed):
  """Sizes of a model and of its images."""
  rng = np.random.default_rng(100 + seed)
  heads = int(rng.choice([1, 2, 4]))
  shape = ['q', 'kv'][seed % 2]
  # Must divide the attention's channels, which are 261 or 322 of these inputs.
  is_odd = shape == 'kv' and kind in ('fourier', 'conv')
  cross_heads = 1 if is_odd else heads
  sizes = {
    'num_latents': int(rng.integers(3, 12)),
    'd_latents': heads * int(rng.integers(3, 9)),
    'num_blocks': int(rng.integers(1, 4)),
    'num_self_attends_per_block': int(rng.integers(1, 4)),
    'num_self_attention_heads': heads,
    'num_cross_attention_heads': cross_heads,
    'cross_attention_shape_for_attention': shape,
    'cross_attention_widening_factor': int(rng.integers(1, 3)),
    'self_attention_widening_factor': int(rng.integers(1, 3)),
    'num_labels': int(rng.integers(3, 9)),
  }
  if kind == 'learned':
    side = int(rng.integers(4, 12))
    return sizes | {'image_size': side}, (side, side)
  return sizes, tuple(rng.integers(5, 30, size=2).tolist())


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('kind', theirs.SIZES)
def test_logits_are_theirs(tmp_path, kind, seed):
  sizes, grid = draw(kind, seed)
  model = theirs.create(kind, seed, **sizes)
  process = theirs.processor(
    grid[0], **theirs.NORMALIZATION['learned' if seed % 2 else 'fourier']
  )
  theirs.save(model, process, tmp_path)
  images = theirs.images(seed, grid)
  pixels = theirs.pixel_values(process, images)
  expected = theirs.logits(model, pixels)

  def difference(expected):
    loaded = perceiver.from_pretrained(tmp_path)
    seen = loaded(pixels.transpose(0, 2, 3, 1), normalized=True)
    raw = loaded(images)
    assert seen.shape == raw.shape == expected.shape
    worst = max(abs(seen - expected).max(), abs(raw - expected).max())
    return worst / abs(expected).max()

  assert difference(expected) <= TOLERANCE

  exact = theirs.logits(model, pixels, theirs.EXACT)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text()) | {'hidden_act': theirs.EXACT}
  path.write_text(json.dumps(config))
  assert difference(exact) <= EXACT_TOLERANCE
