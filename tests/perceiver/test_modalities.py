"""Modalities turn raw arrays into the byte array; JSON can describe them."""

import dataclasses
import json

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import modalities
from tests.perceiver import reference

IMAGE = modalities.Image(
  num_bands=3,
  height=4,
  width=5,
  channels=3,
  mean=(100.0, 110.0, 120.0),
  stddev=(50.0, 60.0, 70.0),
  max_resolution=6.0,
)
CONVOLVED = modalities.ConvolvedImage(
  num_bands=2,
  height=11,
  width=8,
  channels=3,
  mean=IMAGE.mean,
  stddev=IMAGE.stddev,
  features=6,
  max_resolution=5.0,
)
POINTS = modalities.Points(num_bands=3, num_points=9, max_resolution=6.0)
VIDEO = modalities.Video(
  num_bands=2, num_frames=4, height=6, width=4, patch_shape=(2, 3, 2)
)
RAW = modalities.RawAudio(num_bands=2, num_samples=24, samples_per_element=6)
MEL = modalities.MelSpectrogram(
  num_bands=2, num_samples=3840, num_mel_bins=5, mel_hop=960
)
ALL = {
  **{'image': IMAGE, 'convolved': CONVOLVED, 'points': POINTS, 'video': VIDEO},
  **{'raw': RAW, 'mel': MEL},
}
RNG = np.random.default_rng(0)


def byte_array(inputs, batch, **rest):
  function = hk.transform(
    lambda batch: modalities.byte_array(inputs, batch, **rest)
  )
  params = function.init(jax.random.key(0), batch)
  return jax.jit(function.apply)(params, None, batch), params


def of_image(image, pixels, **rest):
  return byte_array({'image': image}, {'image': pixels}, **rest)


@pytest.mark.parametrize('modality', ALL.values(), ids=ALL)
def test_json_holds_all_of_a_modality(modality):
  text = json.dumps(modalities.to_json(modality))
  assert modalities.from_json(json.loads(text)) == modality


def test_a_modality_that_has_no_name_is_refused():
  class Smell(type(ALL['image'])):
    pass

  other = Smell(**vars(ALL['image']))
  with pytest.raises(ValueError, match='Smell is not in MODALITIES'):
    modalities.to_json(other)


@pytest.mark.parametrize('modality', ALL.values(), ids=ALL)
def test_a_batch_is_as_the_modality_says(modality):
  array = RNG.uniform(0, 200, (2, *modality.shape)).astype(modality.dtype)
  modality.check(array)
  prepared = modality.prepare(array)
  assert prepared.shape == (2, *modality.prepared.shape)
  inputs, _ = byte_array({'a': modality}, {modality.source: prepared})
  inputs.validate()
  with pytest.raises(ValueError, match=rf"'{modality.source}' of shape \(2,\)"):
    modality.check(array[(slice(None),) + (0,) * (array.ndim - 1)])


def test_pixels_are_normalised_on_the_device():
  pixels = RNG.integers(256, size=(2, 4, 5, 3), dtype=np.uint8)
  inputs, _ = of_image(IMAGE, pixels)
  content = (pixels - np.array(IMAGE.mean)) / np.array(IMAGE.stddev)
  features = reference.fourier(reference.grid(4, 5), 3, 6)
  spread = np.broadcast_to(features, (2, 4, 5, 14))
  expected = np.concatenate([content, spread], axis=-1).reshape(2, 20, 17)
  np.testing.assert_allclose(inputs.to_array(), expected, atol=1e-6)
  same, _ = of_image(IMAGE, content.astype(np.float32), normalized=True)
  np.testing.assert_allclose(same.to_array(), inputs.to_array(), atol=1e-6)


def test_images_of_other_sizes_where_positions_are_there_for_them():
  larger = np.zeros((1, 7, 9, 3))
  IMAGE.check(larger)
  for change in (
    {'positions': 'learned'},
    {'max_resolution': None},
    {'permutation_seed': 0},
  ):
    with pytest.raises(ValueError, match=r'expected \[B, 4, 5, 3\]'):
      dataclasses.replace(IMAGE, **change).check(larger)


def test_a_projection_is_learned_and_positions_too():
  image = dataclasses.replace(
    IMAGE, positions='learned', position_channels=7, projection=6
  )
  pixels = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
  inputs, params = of_image(image, pixels, normalized=True)
  assert jax.tree.map(jnp.shape, params) == {
    'projection': {'w': (3, 6), 'b': (6,)},
    'learned_positions': {'positions': (1, 4, 5, 7)},
  }
  expected = pixels @ np.asarray(params['projection']['w'])
  content = inputs.to_array()[..., :6].reshape(2, 4, 5, 6)
  np.testing.assert_allclose(content, expected, atol=1e-5)


@pytest.mark.parametrize(
  ('padding', 'grids'),
  [
    ('same', {(11, 8): (3, 2), (12, 9): (3, 3), (1, 4): (1, 1)}),
    ('transformers', {(11, 8): (2, 1), (12, 9): (2, 2), (16, 5): (3, 1)}),
  ],
)
def test_elements_of_a_convolution_are_as_its_padding_says(padding, grids):
  image = dataclasses.replace(CONVOLVED, padding=padding)
  for size, grid in grids.items():
    pixels = RNG.normal(size=(2, *size, 3)).astype(np.float32)
    image.check(pixels, normalized=True)
    inputs, params = of_image(image, pixels, normalized=True)
    assert inputs.segments[0].grid == grid
    kernel, bias = (np.float64(params['convolution'][x]) for x in 'wb')
    assert kernel.shape == (7, 7, 3, 6)
    for i, x in enumerate(np.float64(pixels)):
      is_same = padding == 'same'
      around = reference.same_padding(x, 7, 2) if is_same else [(3, 3)] * 2
      x = np.maximum(reference.convolve(x, kernel, around) + bias, 0)
      around = reference.same_padding(x, 3, 2) if is_same else [(0, 0)] * 2
      features = reference.fourier(reference.grid(*grid), 2, 5)
      expected = [reference.max_pool(x, around), features]
      np.testing.assert_allclose(
        inputs.to_array()[i].reshape(*grid, -1),
        np.concatenate(expected, axis=-1),
        atol=1e-5,
      )


def test_a_convolution_takes_images_that_leave_an_element():
  any_size = dataclasses.replace(CONVOLVED, padding='transformers')
  for image, size, is_taken in (
    (CONVOLVED, (1, 1), True),
    (any_size, (5, 5), True),
    (any_size, (5, 4), False),
    (dataclasses.replace(CONVOLVED, max_resolution=None), (11, 8), True),
    (dataclasses.replace(CONVOLVED, max_resolution=None), (11, 9), False),
  ):
    assert image.takes((*size, 3)) == is_taken
  assert not CONVOLVED.takes((11, 8, 4))
  inputs, _ = of_image(CONVOLVED, np.zeros((0, 11, 8, 3)))
  assert inputs.to_array().shape == (0, 6, 16)


def test_permuted_pixels_are_the_same_elements():
  pixels = RNG.normal(size=(1, 4, 5, 3)).astype(np.float32)
  permuted = dataclasses.replace(IMAGE, permutation_seed=3)
  plain, other = (
    np.asarray(of_image(x, pixels)[0].to_array())[0] for x in (IMAGE, permuted)
  )
  order = modalities.permutation(3, 20)
  assert (order != np.arange(20)).any()
  np.testing.assert_array_equal(other, plain[order])


def test_clouds_are_brought_into_the_unit_cube():
  cloud = RNG.normal(size=(2, 9, 3)) * 7 + 3
  prepared = POINTS.prepare(cloud)
  np.testing.assert_allclose(np.abs(prepared).max(axis=(1, 2)), 1, rtol=1e-6)
  np.testing.assert_allclose(prepared.mean(axis=1), 0, atol=1e-6)
  np.testing.assert_array_equal(
    POINTS.prepare(prepared, normalized=True), prepared
  )
  for value in (np.nan, np.inf, 3e38):
    bad = cloud.astype(np.float32)
    bad[0, 3:5, 1] = value
    with pytest.raises(ValueError, match='cannot be normalized'):
      POINTS.prepare(bad)
  with pytest.raises(ValueError, match='extent 0'):
    POINTS.prepare(np.ones((1, 9, 3)))


def test_patches_hold_their_frames_lines_and_columns():
  video = RNG.integers(256, size=(2, *VIDEO.shape), dtype=np.uint8)
  patches = VIDEO.prepare(video)
  assert patches.shape == (2, 2, 2, 2, 36)
  np.testing.assert_array_equal(
    patches[1, 1, 0, 1], video[1, 2:4, :3, 2:4].reshape(-1)
  )


def test_what_is_absent_is_zero_and_keeps_its_place():
  batch = {
    'video': VIDEO.prepare(np.full((2, *VIDEO.shape), 200, np.uint8)),
    'audio': np.full((2, 24), 9999, np.int16),
    'has_audio': np.array([True, False]),
    'video_mask': np.arange(16).reshape(2, 2, 2, 2) < 12,
  }
  inputs, params = byte_array({'video': VIDEO, 'raw': RAW}, batch)
  assert params['modality_encoding'].keys() == {'video', 'raw'}
  video, raw = (np.asarray(x.content) for x in inputs.segments)
  assert (raw[0] > 0.3).all()
  assert (raw[1] == 0).all()
  assert (video[0] > 0.5).all()
  assert (video[1, 0] > 0.5).all()
  assert (video[1, 1] == 0).all()
  assert inputs.num_elements == 8 + 4


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('image', {'type': 'smell'}, "'type' must be one of"),
    ('image', {'depth': 3}, r"unknown keys \['depth'\] of 'image'"),
    ('image', {'height': 0}, r'height=0 must be in \[1, inf\)'),
    ('image', {'height': 2.5}, r'height=2.5 must be an integer'),
    ('image', {'height': '4'}, r"height='4' must be an integer"),
    ('image', {'height': 10**9}, 'too large'),
    ('image', {'stddev': [1, 1]}, 'must have 3 values'),
    ('image', {'stddev': [1, 1, 0]}, r'stddev=.* must be in \(0, inf\)'),
    ('image', {'positions': 'sine'}, "positions='sine' is none of"),
    ('convolved', {'features': 0}, r'features=0 must be in \[1, inf\)'),
    ('convolved', {'padding': 'full'}, "padding='full' is none of"),
    ('convolved', {'padding': 'transformers', 'width': 4}, '11 x 4 pixels are'),
    ('points', {'grid': [2, 5]}, 'must have 9 places'),
    ('video', {'patch_shape': [3, 3, 2]}, 'does not divide'),
    ('video', {'patch_shape': [2, 3]}, r'patch_shape=\(2, 3\) does not'),
    ('raw', {'samples_per_element': 7}, 'samples_per_element=7 does not div'),
    ('mel', {'mel_hop': 7}, 'mel_hop=7 does not divide the 3840 samples'),
    ('mel', {'num_bands': None}, "'mel_spectrogram'"),
  ],
)
def test_what_is_no_modality_is_one_clear_error(name, change, message):
  with pytest.raises(ValueError, match=message):
    modalities.from_json(modalities.to_json(ALL[name]) | change)


def scaled(name, low, high, dtype='float32'):
  array = RNG.uniform(size=(2, *ALL[name].shape)) * low
  array.flat[0], array.flat[-1] = low, high
  return array.astype(dtype)


RAW_PIXELS = r'expected 0 to 255\b.*normalized=True'


@pytest.mark.parametrize(
  'library', [np.asarray, jnp.asarray], ids=['np', 'jnp']
)
@pytest.mark.parametrize(
  ('name', 'numbers', 'normalized', 'message'),
  [
    ('image', (0.1, 1), False, RAW_PIXELS),
    ('image', (0, 1, bool), False, RAW_PIXELS),
    ('image', (-2.1, 2.6), False, RAW_PIXELS),
    ('image', (-3, 250), False, '-3 to 250; .*Scale or clip them'),
    ('image', (0, 65535, 'uint16'), False, RAW_PIXELS),
    ('image', (0, np.nan), False, 'to nan; expected finite'),
    ('image', (0, 255), True, 'or normalized=False'),
    ('image', (0, np.inf), True, 'to inf; expected finite'),
    ('image', (0, 200, 'c8'), False, 'of complex64; expected real'),
    ('video', (-1, 1), False, RAW_PIXELS),
    ('video', (0, 255, 'uint8'), True, 'expected -1 to 1, or norm'),
    ('points', (-7, 7), True, 'expected -1 to 1, or normalized=F'),
    ('points', (-7, np.nan), False, 'expected finite'),
    ('raw', (-1, 1), False, 'of floats; expected int16, or norm'),
    ('raw', (0, 255, 'uint8'), False, 'expected int16, whose silence'),
    ('raw', (-9, 2**20, 'int32'), False, 'expected -3.277e.04 to 3.2'),
    ('mel', (-3e4, 3e4, 'int16'), True, 'expected -1 to 1, or norm'),
  ],
)
def test_numbers_that_cannot_be_are_refused(
  name, numbers, normalized, message, library
):
  with pytest.raises(ValueError, match=message):
    ALL[name].check(library(scaled(name, *numbers)), normalized)


@pytest.mark.parametrize(
  ('name', 'numbers', 'normalized'),
  [
    ('image', (0, 255, 'uint8'), False),
    ('image', (0, 255), False),
    ('image', (0, 1.5), False),  # Dark, but with values above 1.
    ('image', (0, 0), False),  # Black in every range.
    ('image', (0, 0, bool), False),
    ('image', (-2.5, 3.2), True),  # Overshoots from resizing.
    ('image', (0, 1), True),
    ('video', (-1.2, 1.2), True),
    ('points', (-1, 1), False),
    ('points', (-1e6, 1e6), False),
    ('raw', (-32768, 32767, 'int16'), False),
    ('mel', (-1.1, 1.1), True),
  ],
)
def test_numbers_that_can_be_are_taken(name, numbers, normalized):
  ALL[name].check(scaled(name, *numbers), normalized)


def test_no_numbers_are_taken():
  IMAGE.check(np.zeros((0, *IMAGE.shape)))


@pytest.mark.parametrize(
  ('name', 'dtype'), [('image', 'uint8'), ('video', 'int32'), ('raw', 'int16')]
)
def test_integers_of_0_and_1_are_taken_with_a_warning(name, dtype):
  array = scaled(name, 0, 1, dtype)
  with pytest.warns(UserWarning, match='numbers from 0 to 1; expected .*'):
    ALL[name].check(array)


def test_the_range_of_pixels_is_the_models():
  digits = dataclasses.replace(IMAGE, white=16.0)
  with pytest.raises(ValueError, match='expected 0 to 16'):
    digits.check(scaled('image', 0, 255))
  with pytest.raises(ValueError, match='expected 0 to 16'):
    digits.check(scaled('image', 0, 1))
  fractions = dataclasses.replace(IMAGE, white=1.0)
  fractions.check(scaled('image', 0, 1))
  with pytest.raises(ValueError, match='expected 0 to 1'):
    fractions.check(scaled('image', 0, 255))
  unknown = dataclasses.replace(IMAGE, white=None)
  unknown.check(scaled('image', -7, 1e6))


def test_numbers_of_a_traced_array_are_not_known():
  def run(array):
    IMAGE.check(array)
    return array

  jax.jit(run)(scaled('image', 0, 1))
  with pytest.raises(ValueError, match=r"'image' of shape \(2, 4\)"):
    jax.jit(run)(np.zeros((2, 4)))
