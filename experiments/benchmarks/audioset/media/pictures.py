"""Pictures of a video as players show them: upright, with square pixels."""

import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image

SHORT_SIDE = 256  # Pixels; smaller videos are not enlarged.
JPEG_QUALITY = 85
# Real pixels are at most twice as wide as high (anamorphic film). A header that
# says more than this, or less than its inverse, is taken to be damaged.
MAX_PIXEL_RATIO = 4.0
# A display matrix a, b, c, d puts pixel (x, y) at (a x + c y, b x + d y); the y
# axis points down.
TURNS = {
  (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
  (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
  (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
  (0, -1, 1, 0): Image.Transpose.ROTATE_90,  # Counter-clockwise.
  (0, 1, -1, 0): Image.Transpose.ROTATE_270,
  (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
  (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


@dataclasses.dataclass(frozen=True)
class Display:
  """Size and turn in which all frames of a video are shown."""

  width: int  # Pixels, before the turn.
  height: int
  turn: Image.Transpose | None

  def jpeg(self, frame: Any) -> bytes:
    """Encodes PyAV's frame as a JPEG file."""
    image = frame.to_image(width=self.width, height=self.height)
    if self.turn is not None:
      image = image.transpose(self.turn)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=JPEG_QUALITY)
    return buffer.getvalue()


def display(frame: Any, pixel_ratio: float) -> Display:
  """Returns how to show a video that begins with a frame.

  Phones store pictures as the sensor sees them, beside a display matrix; some
  cameras and television store fewer columns than they show: `pixel_ratio` is a
  pixel's width to its height.
  """
  width, height = float(frame.width), float(frame.height)
  if 1 / MAX_PIXEL_RATIO <= pixel_ratio <= MAX_PIXEL_RATIO:
    width *= pixel_ratio
  scale = min(1.0, SHORT_SIDE / min(width, height))
  width, height = scale * width, scale * height
  return Display(max(round(width), 1), max(round(height), 1), _turn(frame))


def _turn(frame: Any) -> Image.Transpose | None:
  """Returns the nearest turn by right angles, mirrored or not, if any."""
  matrix = frame.side_data.get('DISPLAYMATRIX')
  if matrix is None:
    return None
  entries = np.frombuffer(matrix, np.int32, 5)[[0, 1, 3, 4]].astype(float)
  largest = np.abs(entries).max()
  if not largest:  # A damaged header.
    return None
  return TURNS.get(tuple(np.round(entries / largest).astype(int).tolist()))
