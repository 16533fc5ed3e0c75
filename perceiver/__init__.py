"""Perceiver: General Perception with Iterative Attention, in JAX and Haiku."""

from perceiver import attention_maps
from perceiver.inputs import ByteArray, ModalityEncoding, Segment
from perceiver.model import Perceiver
from perceiver.position_encoding import (
  fourier_axes,
  fourier_points,
  LearnedPositions,
)
from perceiver.pretrained import from_pretrained, Pretrained

__version__ = '0.1.0'

__all__ = [
  'ByteArray',
  'LearnedPositions',
  'ModalityEncoding',
  'Perceiver',
  'Pretrained',
  'Segment',
  'attention_maps',
  'fourier_axes',
  'fourier_points',
  'from_pretrained',
]
