"""Images whose pixels a convolution has summed up (arXiv 2107.14795)."""

import dataclasses

import haiku as hk
import jax

from perceiver.inputs import Segment
from perceiver.modalities.image import Pixels
from perceiver.position_encoding import fourier_axes
from perceiver.ranges import Count, Positive

# How each layer pads an image: its convolution [before, after] on each axis,
# and its max pool.
PADDINGS: dict[str, tuple[str | list[tuple[int, int]], str]] = {
  'same': ('SAME', 'SAME'),
  'transformers': ([(3, 3), (3, 3)], 'VALID'),
}


@dataclasses.dataclass(frozen=True)
class ConvolvedImage(Pixels):
  """Images [H, W, channels], an element for each 4 x 4 pixels.

  A convolution of 7 x 7 pixels, ReLU and a max pool of 3 x 3, both with stride
  2, are the convolutional input of Perceiver IO. Batch norm is for training:
  trained weights have it folded into the convolution.
  """

  features: Count = 64  # Channels of the convolution.
  max_resolution: Positive | None = None  # μ; None: as many as elements.
  # 'same' is TensorFlow's, in both layers: 224 x 224 pixels become 56 x 56
  # elements. 'transformers' has 3 pixels on each side of the image and none in
  # the max pool: they become 55 x 55, a pixel further up and left.
  padding: str = 'same'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.padding not in PADDINGS:
      raise ValueError(
        f'padding={self.padding!r} is none of {tuple(PADDINGS)}.'
      )
    if not self._has_elements(self.shape):
      raise ValueError(f'{self.height} x {self.width} pixels are too few.')

  def takes(self, shape: tuple[int, ...]) -> bool:
    """Accepts any height and width if there are positions for all of them."""
    if self.max_resolution is None:
      return shape == self.shape
    return shape[2] == self.channels and self._has_elements(shape)

  def segment(self, content: jax.Array) -> Segment:
    """Convolves the pixels, and adds Fourier features to the result."""
    around_image, around_features = PADDINGS[self.padding]
    convolve = hk.Conv2D(
      self.features, 7, stride=2, padding=around_image, name='convolution'
    )
    features = jax.nn.relu(
      convolve(content, precision=jax.lax.Precision.HIGHEST)
    )
    content = hk.max_pool(
      features, (1, 3, 3, 1), (1, 2, 2, 1), padding=around_features
    )
    grid = content.shape[1:3]
    return Segment(
      content, fourier_axes(grid, self.num_bands, self.max_resolution)
    )

  def _has_elements(self, shape: tuple[int, ...]) -> bool:
    """Whether the max pool has at least one window on each axis."""
    return min(shape[:2]) >= (1 if self.padding == 'same' else 5)
