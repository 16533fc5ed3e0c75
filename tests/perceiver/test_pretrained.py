"""Folders of weights are read as they were written, and compute the same."""

import functools

import jax
import numpy as np
import pytest

import perceiver
from perceiver import attention_maps, exports, weight_files
from perceiver.weight_files import WeightsError
from tests import quick
from tests.perceiver.small_models import (
  config_of,
  INPUTS,
  MODEL,
  prepared,
  random_batch,
  random_params,
  transformed,
  TRANSFORMERS,
)


@pytest.fixture(scope='module')
def save(tmp_path_factory):
  """Makes a folder with random weights, its input, and a batch's logits."""

  @functools.cache
  def make(kind):
    inputs = INPUTS[kind]
    batch = random_batch(inputs)
    model, data = transformed(inputs), prepared(inputs, batch)
    params = random_params(inputs, data)
    folder = tmp_path_factory.mktemp('saved') / kind
    tensors = exports.as_tensors(params)
    exports.write(folder, config_of(inputs), tensors)
    return folder, batch, jax.jit(model.apply)(params, None, data), params

  return make


@pytest.fixture(params=quick.only(['image'], INPUTS))
def saved(save, request):
  return save(request.param)


@pytest.fixture
def events(save):
  """The folder of the model with two modalities."""
  return save('events')


def test_what_is_written_is_read(saved):
  folder, batch, logits, params = saved
  model = perceiver.from_pretrained(folder)
  assert list(model.class_names) == ['cat', 'dog', 'owl']
  assert model.config['model'] == MODEL
  jax.tree.map(np.testing.assert_array_equal, dict(model.params), params)
  inputs = batch if len(batch) > 1 else next(iter(batch.values()))
  assert np.ptp(logits) > 0.1
  # The same program, except for rounding in fused operations.
  np.testing.assert_allclose(model(inputs), logits, rtol=1e-5, atol=1e-6)
  latents = model.encode(inputs)
  assert latents.shape == (2, 4, 8)
  embeddings = model.embed(inputs)
  np.testing.assert_allclose(embeddings, latents.mean(axis=1), rtol=1e-5)
  array = model.byte_array(inputs)
  array.validate()
  maps = [
    attention_maps.logits(query, array)
    for query in model.attention_queries(inputs)
  ]
  assert [x.shape for x in maps] == 2 * [(2, 1, 4, array.num_elements)]


def test_logits_are_a_linear_layer_of_the_embedding_of_a_query():
  folder = TRANSFORMERS / 'learned'
  images = np.load(folder / 'expected.npz')['images_10x10']
  model = perceiver.from_pretrained(folder)
  head = jax.tree.map(np.asarray, model.params['perceiver/head'])
  embeddings = model.embed(images)
  assert embeddings.shape == (2, 16)
  logits = np.asarray(embeddings) @ head['w'] + head['b']
  np.testing.assert_allclose(logits, model(images), rtol=1e-4, atol=1e-5)


def test_unknown_choices_are_named_at_once(events):
  folder, *_ = events
  with pytest.raises(ValueError, match="attention='fast' is none of"):
    perceiver.from_pretrained(folder, attention='fast')
  with pytest.raises(TypeError, match='float7'):
    perceiver.from_pretrained(folder, compute_dtype='float7')
  half = perceiver.from_pretrained(folder, compute_dtype='bfloat16')
  assert half.params['perceiver']['latents'].dtype == np.float32


def test_several_devices_share_a_batch(events):
  folder, batch, logits, _ = events
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ('data',))
  model = perceiver.from_pretrained(folder, mesh=mesh)
  np.testing.assert_allclose(model(batch), logits, rtol=1e-5, atol=1e-6)


def test_of_an_empty_batch_everything_is_empty(saved):
  folder, batch, *_ = saved
  nothing = {name: array[:0] for name, array in batch.items()}
  model = perceiver.from_pretrained(folder)
  assert model(nothing).shape == (0, 3)
  assert model.encode(nothing).shape == (0, 4, 8)
  assert model.embed(nothing).shape == (0, 8)
  array = model.byte_array(nothing)
  assert array.to_array().shape == (0, array.num_elements, array.num_channels)
  for query in model.attention_queries(nothing):
    logits = attention_maps.logits(query, array)
    assert logits.shape == (0, 1, 4, array.num_elements)
    assert attention_maps.weights(logits, array).shape == logits.shape
    mean = attention_maps.mean_weights(query, array)
    assert mean.shape == (0, array.num_elements)


def test_pixels_of_another_scale_are_refused():
  folder = TRANSFORMERS / 'fourier'
  expected = np.load(folder / 'expected.npz')
  images = expected['images_9x13']
  pixels = expected['pixel_values_9x13'].transpose(0, 2, 3, 1)
  model = perceiver.from_pretrained(folder)
  right = model(images)
  for same in (images.astype(np.float32), images.tolist()):
    np.testing.assert_array_equal(model(same), right)
  functions = (model, model.encode, model.byte_array, model.attention_queries)
  for function in functions:
    for wrong in (images / 255, pixels):
      with pytest.raises(ValueError, match=r'0 to 255.*normalized=True'):
        function(wrong)
    with pytest.raises(ValueError, match='normalized=False'):
      function(images, normalized=True)
  jitted = jax.jit(lambda x: model(x))(images)
  np.testing.assert_allclose(jitted, right, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_is_left_out_counts_as_absent(events):
  folder, batch, _, params = events
  inputs = INPUTS['events']
  model, data = transformed(inputs), prepared(inputs, batch)
  loaded = perceiver.from_pretrained(folder)
  absent = np.zeros(2, bool)
  expected = jax.jit(model.apply)(params, None, data | {'has_video': absent})
  np.testing.assert_allclose(
    loaded({'audio': batch['audio']}), expected, rtol=1e-5, atol=1e-6
  )
  for bad, message in (
    ({}, r'Inputs \[\] are not some of'),
    ({'smell': 1}, r"Inputs \['smell'\] are not some of \['audio', 'video'\]"),
    (batch['audio'], 'must be by name'),
    (batch | {'video': batch['video'][:1]}, r'different batch sizes \[1, 2\]'),
    (batch | {'audio': batch['audio'][:, :9]}, r"'audio' of shape \(2, 9\)"),
    ({'audio': batch['audio'] / 9}, "'audio' of floats; expected int16, or"),
  ):
    with pytest.raises(ValueError, match=message):
      loaded(bad)


@pytest.mark.slow
def test_halves_take_half_the_space(events, tmp_path):
  folder, batch, logits, _ = events
  config, tensors = exports.read(folder)
  for dtype in ('bfloat16', 'float16'):
    half = tmp_path / dtype
    exports.write(half, config, tensors, dtype=dtype)
    small, large = ((x / weight_files.TENSORS).stat() for x in (half, folder))
    assert small.st_size < 0.8 * large.st_size
    model = perceiver.from_pretrained(half)
    assert {x.dtype for x in jax.tree.leaves(model.params)} == {
      np.dtype('float32')
    }
    error = np.linalg.norm(model(batch) - logits) / np.linalg.norm(logits)
    assert 0 < error < 0.05


def test_nothing_is_written_over_or_left_half_written(events, tmp_path):
  folder, *_ = events
  config, tensors = exports.read(folder)
  before = (folder / weight_files.CONFIG).read_bytes()
  with pytest.raises(FileExistsError, match='exists already'):
    exports.write(folder, config, tensors)
  with pytest.raises(WeightsError, match='3 classes, but model'):
    exports.write(
      tmp_path / 'new', config | {'model': MODEL | {'num_classes': 4}}, tensors
    )
  with pytest.raises(ValueError, match="dtype='int8' is none of"):
    exports.write(tmp_path / 'new', config, tensors, dtype='int8')
  with pytest.raises(OSError, match='name too long'):
    exports.write(
      tmp_path / 'new', config, tensors, files={'x' * 300: 'too long'}
    )
  assert list(tmp_path.iterdir()) == []
  assert (folder / weight_files.CONFIG).read_bytes() == before


def relative_error(logits, expected):
  return np.abs(logits - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
  'kind', quick.only(['learned', 'conv'], ['fourier', 'learned', 'conv'])
)
def test_models_of_transformers_give_its_logits(kind):
  """The fixtures are from tests/perceiver/make_transformers_fixtures.py."""
  folder = TRANSFORMERS / kind
  expected = np.load(folder / 'expected.npz')
  sizes = [x.removeprefix('tanh_') for x in expected if x.startswith('tanh_')]
  assert len(sizes) == {'fourier': 3, 'learned': 1, 'conv': 2}[kind]
  model = perceiver.from_pretrained(folder)
  assert 'owl' in model.class_names
  for size in sizes:
    raw = model(expected[f'images_{size}'])
    pixels = expected[f'pixel_values_{size}'].transpose(0, 2, 3, 1)
    seen = model(pixels, normalized=True)
    for logits in (raw, seen):
      assert relative_error(logits, expected[f'tanh_{size}']) <= 1e-5
      assert relative_error(logits, expected[f'exact_{size}']) <= 2e-3
  queries = model.attention_queries(pixels, normalized=True)
  assert len(queries) == 1
