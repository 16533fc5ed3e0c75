"""Folders of weights that are damaged or do not fit: one clear error each."""

import json
import pathlib
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy

import perceiver
from perceiver import exports, weight_files
from perceiver.importers import image_processor
from perceiver.weight_files import WeightsError
from tests.perceiver.small_models import (
  config_of,
  INPUTS,
  prepared,
  random_batch,
  random_params,
  TRANSFORMERS,
)


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
  """A small folder of random weights."""
  folder = tmp_path_factory.mktemp('exports') / 'ours'
  inputs = INPUTS['points']
  params = random_params(inputs, prepared(inputs, random_batch(inputs)))
  exports.write(folder, config_of(inputs), exports.as_tensors(params))
  return folder


@pytest.fixture
def copy(ours, tmp_path):
  """Copies that folder, or one of transformers."""

  def make(kind):
    folder = ours if kind == 'ours' else TRANSFORMERS / kind
    return pathlib.Path(shutil.copytree(folder, tmp_path / kind))

  return make


def change_config(folder, change, name=weight_files.CONFIG):
  data = json.loads((folder / name).read_text())
  change(data)
  (folder / name).write_text(json.dumps(data))


def assert_refused(folder, message, error=WeightsError):
  with pytest.raises(error, match=message) as caught:
    perceiver.from_pretrained(folder)
  assert str(folder) in str(caught.value)


def put(**values):
  return lambda data: data.update(values)


def put_in_model(**values):
  return lambda data: data['model'].update(values)


@pytest.mark.parametrize(
  ('kind', 'change', 'message'),
  [
    ('ours', put(format='other'), "format 'other', version 1; known is"),
    ('ours', put(extra=1), r"unknown keys \['extra'\]"),
    ('ours', lambda d: d.pop('scores'), r"missing keys \['scores'\]"),
    ('ours', put(scores='max'), "'scores' must be one of"),
    ('ours', put(classes=['a', 'b']), '2 classes, but model.num_clas'),
    ('ours', put(classes=3), "'classes' a list of strings"),
    ('ours', put(classes=[1, 2, 3]), "'classes' a list of strings"),
    ('ours', put(model=[]), "'model' must be an object"),
    ('ours', put(input={}), 'at least one modality'),
    ('ours', put(input={'x': {'type': 'x'}}), "'type' must be one of"),
    ('ours', put_in_model(depth=3), "unexpected keyword argument 'depth'"),
    ('ours', put_in_model(mesh=None), r"unknown keys \['mesh'\] of the model"),
    ('ours', put_in_model(num_latents=0), r'num_latents=0 must be in \[1, inf'),
    ('ours', put_in_model(num_latents='4'), "num_latents='4' must be an int"),
    ('ours', put_in_model(num_latents=5), r"'perceiver/latents' .*\(5, 8\)"),
    ('ours', put_in_model(num_latents=10**12), 'perceiver/latents'),
    ('ours', put_in_model(num_cross_attends=10**9), 'of 2000000000 layers is '),
    ('ours', put_in_model(latent_channels=16), 'gives the shape'),
    ('ours', put_in_model(compute_dtype='float7'), 'float7'),
    ('ours', put_in_model(head='query'), r'missing tensors \[perceiver/deco'),
    ('fourier', put(architectures=['PerceiverForMaskedLM']), 'of other'),
    ('fourier', put(architectures=['x', 'y']), 'not those of other tasks'),
    ('conv', put(d_latents=48), 'gives the shape'),
    ('fourier', put(hidden_act='relu'), "hidden_act='relu' is not sup"),
    ('fourier', put(use_query_residual=False), 'use_query_residual=F'),
    ('fourier', put(qk_channels=64), 'qk_channels=64 is not supported'),
    ('fourier', put(num_blocks=0.5), 'transformers=0.5 is not an integer'),
    ('fourier', put(d_latents=48), 'gives the shape'),
    ('fourier', put(id2label={'0': 'a'}), 'final_layer.bias'),
    ('fourier', put(id2label={'1': 'a'}), "id2label lacks '0'"),
    ('fourier', put(num_self_attends_per_block=3), r'missing \[perc'),
    ('fourier', put(num_self_attends_per_block=10**30), 'too deep'),
    ('fourier', put(problem_type='ranking'), "type='ranking' is not s"),
    ('fourier', put(problem_type=3), 'problem_type=3 is not supported'),
    ('fourier', put(problem_type=[]), r'problem_type=\[\] is not'),
    ('fourier', put(num_labels=4), 'num_labels=4, but id2label has 5'),
    ('fourier', put(id2label=None, num_labels='x'), "labels='x' is not supp"),
    ('fourier', put(id2label=None, num_labels=10**12), 'labels=1000000000000 '),
    ('fourier', put(id2label=['a']), r"id2label=\['a'\] is not supp"),
    ('learned', put(image_size=True), 'image_size=True is not supp'),
    ('learned', put(image_size=11), 'do not fit image_size=11'),
    ('learned', put(image_size='x'), "image_size='x' is not supported"),
  ],
)
def test_a_config_that_does_not_fit_is_one_clear_error(
  copy, kind, change, message
):
  folder = copy(kind)
  change_config(folder, change)
  assert_refused(folder, message)


def change_tensors(folder, change):
  path = folder / weight_files.TENSORS
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  path.write_bytes(safetensors.numpy.save(tensors))


def change_header(folder, change):
  """Rewrites the header: its length, then JSON, then the numbers."""
  path = folder / weight_files.TENSORS
  data = path.read_bytes()
  (size,) = struct.unpack('<Q', data[:8])
  header = json.loads(data[8 : 8 + size])
  header.pop('__metadata__', None)
  header = change(header)
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + data[8 + size :])


def longer(header):
  """Makes a tensor claim a larger shape than its data has."""
  name = sorted(header)[0]
  header[name]['shape'] = [10**6, *header[name]['shape']]
  return header


def overlapping(header):
  first, second, *_ = sorted(header)
  header[first]['data_offsets'] = header[second]['data_offsets']
  header[first]['shape'] = header[second]['shape']
  return header


def behind_the_end(header):
  last = max(header, key=lambda x: header[x]['data_offsets'])
  header[last]['data_offsets'][1] += 4
  header[last]['shape'] = [header[last]['shape'][0] + 1]
  return header


OURS = 'perceiver/head/b'


def ones(name, *shape, dtype='f'):
  return lambda tensors: tensors.update({name: np.ones(shape, dtype)})


def spoil(number):
  return lambda tensors: tensors[OURS].fill(number)


@pytest.mark.parametrize('kind', ['ours', 'fourier'])
@pytest.mark.parametrize(
  'change', [longer, overlapping, behind_the_end, lambda h: b'{' * 9]
)
def test_a_header_that_lies_is_refused(copy, kind, change):
  folder = copy(kind)
  change_header(folder, change)
  assert_refused(folder, 'is damaged')


def test_a_length_that_lies_is_refused(copy):
  folder = copy('ours')
  path = folder / weight_files.TENSORS
  data = path.read_bytes()
  for content in (struct.pack('<Q', 1 << 62) + data[8:], data[:-3], data[:5]):
    path.write_bytes(content)
    assert_refused(folder, 'is damaged')


HEAD = 'perceiver.decoder.decoder.final_layer.bias'
NORM = 'perceiver.encoder.cross_attention.attention.self.layernorm2.weight'
BIAS = 'perceiver.input_preprocessor.positions_projection.bias'
KERNEL = 'perceiver.input_preprocessor.convnet.conv.weight'
NORM_2D = 'perceiver.input_preprocessor.convnet.batchnorm'
PIXELS = 'perceiver.input_preprocessor.convnet_1x1.weight'
TABLE = 'perceiver.input_preprocessor.position_embeddings.position_embeddings'


@pytest.mark.parametrize(
  ('kind', 'change', 'message'),
  [
    ('ours', lambda t: t.pop(OURS), r'missing tensors \[perceiver/head'),
    ('ours', ones('x/y', 3), r'unknown tensors \[x/y\]'),
    ('ours', ones(OURS, 4), rf"'{OURS}' gives the shape \(4,\).* for \(3,\)"),
    ('ours', ones(OURS, 3, dtype='int64'), f"'{OURS}' is of int64"),
    ('ours', spoil(np.nan), f"'{OURS}' has values that are not finite"),
    ('ours', spoil(np.inf), f"'{OURS}' has values that are not finite"),
    # Tensors of transformers are named as there.
    ('fourier', lambda t: t.pop(HEAD), rf'missing \[{HEAD}\]'),
    ('fourier', ones(HEAD, 4), f'{HEAD}.*gives the shape'),
    ('fourier', ones(HEAD, 0), f'{HEAD}.*gives the shape'),
    ('fourier', ones(NORM), f'{NORM}.*gives the shape'),
    # This is our name of a tensor.
    ('fourier', ones('perceiver/latents', 8, 24), r'unknown \[perceiver/late'),
    ('learned', ones(PIXELS, 256, 3, 2, 2), f'{PIXELS}.*has the shape'),
    ('learned', ones(TABLE, 9), f'{TABLE}.*has the shape'),
    ('learned', ones(TABLE, 100, 7), 'positions do not fit image_size=10'),
    ('learned', ones(BIAS, 1), rf'{BIAS}.*has the shape \(1,\)'),
    ('conv', lambda t: t.pop(KERNEL), rf'missing \[{KERNEL}\]'),
    ('conv', ones(KERNEL, 64, 3, 3, 3), f'{KERNEL}.*has the shape'),
    ('conv', ones(f'{NORM_2D}.running_mean', 3), 'running_mean.*has the shape'),
    ('conv', ones(f'{NORM_2D}.x', 3), rf'unknown \[{NORM_2D}.x\]'),
    (
      'conv',
      lambda t: t[f'{NORM_2D}.running_var'].fill(-1),
      'running_var.* has negative',
    ),
  ],
)
def test_tensors_that_do_not_fit_are_named(copy, kind, change, message):
  folder = copy(kind)
  change_tensors(folder, change)
  assert_refused(folder, message)


def test_what_is_no_plain_file_in_the_folder_is_not_opened(copy, tmp_path):
  folder = copy('ours')
  for name in (weight_files.CONFIG, weight_files.TENSORS):
    path, elsewhere = folder / name, tmp_path / name
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert_refused(folder, 'is a link out of the folder')
    path.unlink()
    assert_refused(folder, f'has no {name}; it has', FileNotFoundError)
    path.mkdir()
    assert_refused(folder, 'is not a file')
    path.rmdir()
    elsewhere.rename(path)
  for text, message in (
    ('[1]', 'is not a JSON object'),
    ('{', 'is not valid JSON'),
    ('[' * 100_000, 'is not valid JSON'),
    (' ' * (weight_files.MAX_JSON_BYTES + 1), 'has more than'),
  ):
    (folder / weight_files.CONFIG).write_text(text)
    assert_refused(folder, message)
  nowhere = tmp_path / 'nowhere'
  assert_refused(nowhere, 'is not a folder of weights', FileNotFoundError)


def test_pickles_are_not_opened(copy):
  folder = copy('fourier')
  (folder / weight_files.TENSORS).rename(folder / 'pytorch_model.bin')
  message = r'pytorch_model.bin is a pickle.*safe_serialization=True\)\.$'
  assert_refused(folder, message, FileNotFoundError)
  (folder / 'pytorch_model.bin').unlink()
  assert_refused(folder, 'Only safetensors are read', FileNotFoundError)


@pytest.mark.parametrize('name', ['model.safetensors', 'config.json'])
def test_a_file_instead_of_its_folder_is_one_clear_error(copy, name):
  assert_refused(copy('fourier') / name, 'give their folder')


def test_channels_that_are_named_may_be_the_latents_own(copy):
  folder = copy('learned')
  images = np.load(TRANSFORMERS / 'learned/expected.npz')['images_10x10']
  expected = perceiver.from_pretrained(folder)(images)
  change_config(folder, put(qk_channels=16, v_channels=16))
  model = perceiver.from_pretrained(folder)
  np.testing.assert_array_equal(model(images), expected)


PROCESSOR = 'preprocessor_config.json'
UNSCALED = {'do_rescale': False}


@pytest.mark.parametrize(
  ('problem_type', 'scores'),
  [
    (None, 'softmax'),
    ('single_label_classification', 'softmax'),
    ('multi_label_classification', 'sigmoid'),
    ('regression', 'none'),
  ],
)
def test_problem_type_says_what_the_scores_are(copy, problem_type, scores):
  folder = copy('fourier')
  change_config(folder, put(problem_type=problem_type))
  assert perceiver.from_pretrained(folder).config['scores'] == scores


@pytest.mark.parametrize(
  ('problem_type', 'scores'),
  [(None, 'none'), ('multi_label_classification', 'sigmoid')],
)
def test_a_single_label_without_a_type_is_a_regression(
  copy, problem_type, scores
):
  folder = copy('fourier')
  change_config(folder, put(id2label={'0': 'owl'}, problem_type=problem_type))
  head = HEAD.removesuffix('.bias')

  def shorten(tensors):
    for name in (f'{head}.bias', f'{head}.weight'):
      tensors[name] = tensors[name][:1]

  change_tensors(folder, shorten)
  model = perceiver.from_pretrained(folder)
  assert model.config['scores'] == scores
  assert list(model.class_names) == ['owl']


def test_labels_without_names_are_counted(copy):
  folder = copy('fourier')
  change_config(folder, put(id2label=None, num_labels=5))
  names = perceiver.from_pretrained(folder).class_names
  assert list(names) == [f'LABEL_{i}' for i in range(5)]


@pytest.mark.parametrize(
  ('change', 'mean', 'stddev', 'white'),
  [
    ({'image_mean': 0.5, 'image_std': 0.25}, 127.5, 63.75, 255),
    ({'image_mean': 0.5, 'image_std': [0.25] * 3}, 127.5, 63.75, 255),
    ({'do_normalize': False}, 0, 255, 255),
    ({'image_mean': 0.5, 'image_std': 0.25} | UNSCALED, 0.5, 0.25, 1),
    ({'image_mean': 127, 'image_std': 60} | UNSCALED, 127, 60, 255),
    ({'do_normalize': False} | UNSCALED, 0, 1, None),
    # null is the default.
    ({'rescale_factor': None, 'image_mean': 1, 'image_std': 1}, 255, 255, 255),
  ],
)
def test_pixels_are_normalised_as_the_processor_says(
  copy, change, mean, stddev, white
):
  folder = copy('fourier')
  change_config(folder, put(**change), PROCESSOR)
  (image,) = exports.read_modalities(exports.read(folder)[0]).values()
  np.testing.assert_allclose(image.mean, [mean] * 3)
  np.testing.assert_allclose(image.stddev, [stddev] * 3)
  assert image.white == white


def test_without_a_processors_file_all_is_as_by_default(tmp_path):
  fields = image_processor.read(tmp_path)
  mean, stddev = (np.array(fields[name]) / 255 for name in ('mean', 'stddev'))
  np.testing.assert_allclose(mean, (0.485, 0.456, 0.406))
  np.testing.assert_allclose(stddev, (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (put(image_mean=[0.5, 0.5]), r'mean=.* must have 3 values'),
    (put(image_std=0), r'stddev=.* must be in \(0, inf\)'),
    (put(rescale_factor=0), 'division by zero'),
    (put(do_rescale='no'), "do_rescale='no' is not a boolean"),
    (put(do_normalize=0), 'do_normalize=0 is not a boolean'),
    (put(do_flip_channel_order=True), 'do_flip_channel_order=True is not sup'),
    (put(rescale_offset=True), 'rescale_offset=True is not'),
    (
      lambda d: (d.pop('image_mean'), put(image_processor_type='ViT')(d)),
      "image_processor_type='ViT' needs image_mean",
    ),
  ],
)
def test_a_processor_that_is_not_ours_is_refused(copy, change, message):
  folder = copy('fourier')
  change_config(folder, change, PROCESSOR)
  assert_refused(folder, f'{PROCESSOR}.*{message}')
