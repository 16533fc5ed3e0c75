"""Reads from transformers' preprocessor_config.json how to normalise pixels.

The caller crops and resizes images, so `do_resize`, `size`, `resample`,
`do_center_crop` and `crop_size` are ignored.
"""

from typing import Any

from perceiver import weight_files
from perceiver.weight_files import PathLike, WeightsError

FILE = 'preprocessor_config.json'
# ImageNet's; the defaults of transformers' PerceiverImageProcessor.
MEAN, STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESCALE = 1 / 255
# The same for pixels from 0 to 255, as fields of `modalities.Image`, without
# the rounding errors of a division.
IMAGENET = {
  'mean': (123.675, 116.28, 103.53),
  'stddev': (58.395, 57.12, 57.375),
}
# Steps of other processors, which are not supported: they must be false.
OTHER_STEPS = (
  *('do_color_quantize', 'do_flip_channel_order', 'do_grayscale'),
  *('do_offset', 'offset', 'rescale_offset'),
)


def read(folder: PathLike) -> dict[str, Any]:
  """Returns the fields 'mean', 'stddev' and 'white' of `modalities.Image`.

  Without the file, without a key or with null, the defaults apply.

  Raises:
    WeightsError: if the file is damaged or asks for unsupported steps.
  """
  where = f'{folder}/{FILE}'
  try:
    data = weight_files.read_json(folder, FILE)
  except FileNotFoundError:
    data = {}
  data = {key: value for key, value in data.items() if value is not None}
  for key in OTHER_STEPS:
    if data.get(key, False) is not False:
      raise WeightsError(f'{where}: {key}={data[key]!r} is not supported.')
  for key in ('do_rescale', 'do_normalize'):
    if type(data.get(key, True)) is not bool:
      raise WeightsError(f'{where}: {key}={data[key]!r} is not a boolean.')
  kind = data.get('image_processor_type', 'Perceiver')
  defaults = {'image_mean': MEAN, 'image_std': STDDEV}
  if (
    not str(kind).startswith('Perceiver') and not data.keys() >= defaults.keys()
  ):
    raise WeightsError(
      f'{where}: image_processor_type={kind!r} needs image_mean and image_std:'
      ' only the defaults of PerceiverImageProcessor are known.'
    )
  rescale = data.get('rescale_factor', RESCALE)
  if not data.get('do_rescale', True):
    rescale = 1
  if not data.get('do_normalize', True):
    data |= {'image_mean': 0.0, 'image_std': 1.0}
  try:
    mean, stddev = (
      tuple(float(x) / rescale for x in _of_channels(data.get(key, default)))
      for key, default in defaults.items()
    )
  except (TypeError, ValueError, ZeroDivisionError) as error:
    raise WeightsError(f'{where}: {error}') from error
  return {'mean': mean, 'stddev': stddev, 'white': _white(mean, stddev)}


def _of_channels(value: Any) -> Any:
  """Repeats a single number for each of the three channels."""
  return (value,) * 3 if isinstance(value, int | float) else value


def _white(mean: tuple[float, ...], stddev: tuple[float, ...]) -> float | None:
  """Infers the largest value of a pixel, 255 or 1, from mean and stddev.

  None if pixels are not normalised: then it is not known.
  """
  if not any(mean) and set(stddev) == {1.0}:
    return None
  return 255.0 if max(*mean, *stddev) > 1 else 1.0
