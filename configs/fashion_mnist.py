"""Fashion-MNIST: Table 2 in small, on real images, in minutes on a CPU.

60,000 + 10,000 images of 28x28 pixels; the Perceiver sees 784 input elements.
The variants are Table 2's: each model on images and on permuted images.
Expected: 89 % for the Perceiver, permuted or not, in half an hour; the ResNet
loses when permuted (experiments/RESULTS.md).

  python -m experiments.run --config=configs/fashion_mnist.py --workdir=…
  python -m experiments.run --config=configs/fashion_mnist.py:permuted …
"""

from ml_collections import ConfigDict

from configs import base
from configs.base import data, evaluation, model, optimizer, task, train

OWN = {
  **task(name='fashion_mnist', positions='fourier', permuted=False),
  **task(num_bands=16, max_resolution=28, max_shift=1, flip=True),  # Pixels.
  **data(dir='/usr/share/datasets/fashion-mnist'),  # Of Debian's package.
  **model(num_classes=10),
}
CHANGES = {
  **base.SMALL,
  **data(max_damaged=0.0),
  **model(num_latents=32, latent_channels=96),
  **optimizer(learning_rate=4e-3),
  **train(batch_size=128, epochs=18.0, eval_every=469, checkpoint_every=469),
  **train(keep_checkpoints=1),
  **evaluation(batch_size=500),
}
RESNET = {
  **model(name='resnet', channels=(32, 64, 128, 256), compute_dtype='float32'),
  **model(stem_channels=16, stem_stride=1),
  **optimizer(name='adamw', learning_rate=2e-3, weight_decay=0.01),
  **train(epochs=2.0),
}
PERMUTED = task(permuted=True)
VARIANTS = {
  '': {},
  'permuted': PERMUTED,
  'resnet': RESNET,
  'resnet_permuted': {**RESNET, **PERMUTED},
}


def get_config(variant: str = '') -> ConfigDict:
  return base.build(OWN, CHANGES, VARIANTS, variant)
