"""Handwritten digits: real data without a download.

scikit-learn's 1,797 digits of 8x8 pixels, 1,437 to train on and 360 to test.
Expected: 98 % of the test digits, in about two minutes on two CPU cores.

  python -m experiments.run --config=configs/digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from configs import base
from configs.base import data, evaluation, model, optimizer, task, train

OWN = {
  **task(name='digits', positions='fourier', num_bands=4, max_resolution=8),
  **task(permuted=False, image_size=8, max_shift=0.5),  # Pixels of 8x8.
  **task(max_rotation=10.0, max_scaling=0.15),  # Degrees; 85 to 115 %.
  **model(num_classes=10),
}
CHANGES = {
  **base.SMALL,
  **data(max_damaged=0.0),
  **train(batch_size=64, epochs=90.0, log_every=10),
  **train(eval_every=200, checkpoint_every=100),
  **evaluation(batch_size=128),
}
VARIANTS = {
  '': {},
  # The size and model of Fashion-MNIST's config, so that training can start
  # from weights of that.
  'as_fashion': {
    **task(image_size=28, num_bands=16, max_resolution=28),
    **model(num_latents=32, latent_channels=96),
  },
  # Seconds instead of minutes, to see whether everything runs.
  'smoke': {
    **model(num_latents=8, latent_channels=16),
    **model(num_self_attends=1, self_attend_heads=2),
    **optimizer(warmup=0.0),
    **train(steps=20, log_every=1, eval_every=10, checkpoint_every=5),
  },
}


def get_config(variant: str = '') -> ConfigDict:
  return base.build(OWN, CHANGES, VARIANTS, variant)
