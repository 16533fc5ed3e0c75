"""The authors' files are read as they wrote them, and nothing else is."""

import json
import os
import pickle
import pickletools
import random

from haiku._src import data_structures
import numpy as np
import pytest

from perceiver.importers import pystate, unpickler
from perceiver.weight_files import WeightsError
from tests import commands
from tests.perceiver.pickles import damaged, hostile, parts

MAPPINGS = {
  'dict': dict,
  'FlatMapping': data_structures.FlatMap,  # It is pickled by its old name.
  'frozendict': data_structures.frozendict,
}
RNG = np.random.default_rng(0)
PARAMS = {
  'perceiver_encoder/~/cross_attention/attention/linear': {
    'w': RNG.normal(size=(3, 4)).astype(np.float32),
    'b': RNG.normal(size=4).astype(np.float32),
  },
  'a': {
    'in_fortrans_order': np.asfortranarray(RNG.normal(size=(2, 3, 4))),
    'not_contiguous': np.arange(12.0, dtype='f2').reshape(3, 4)[:, ::2],
    'of_another_machine': np.arange(3, dtype='>f4'),
    'large': np.full((200, 200), 0.5, np.float32),  # Outside of frames.
  },
}
STATE = {'a/~/mean_ema': {'counter': np.array(7, np.int32)}}


def write(folder, data):
  path = folder / 'imagenet.pystate'
  path.write_bytes(data)
  return path


def refusal(path):
  with pytest.raises(WeightsError) as caught:
    pystate.read(path)
  return str(caught.value)


@pytest.mark.parametrize('protocol', range(2, 6))
@pytest.mark.parametrize('kind', MAPPINGS)
def test_arrays_are_read_as_they_were_written(tmp_path, kind, protocol):
  wrap = lambda tree: MAPPINGS[kind](
    {module: MAPPINGS[kind](values) for module, values in tree.items()}
  )
  weights = {'params': wrap(PARAMS), 'state': wrap(STATE)}
  data = pickle.dumps(weights, protocol)
  assert (b'FlatMapping' in data) == (kind == 'FlatMapping')
  arrays = pystate.read(write(tmp_path, data))
  expected = {
    f'{module}/{name}': array
    for module, values in (PARAMS | STATE).items()
    for name, array in values.items()
  }
  assert arrays.keys() == expected.keys()
  for name, array in expected.items():
    assert arrays[name].dtype == array.dtype
    np.testing.assert_array_equal(arrays[name], array)
    assert not arrays[name].flags.writeable


@pytest.mark.parametrize('protocol', [2, 3])
def test_numpy_of_2021_had_other_names_for_its_modules(tmp_path, protocol):
  weights = {'params': PARAMS, 'state': STATE}
  data = pickle.dumps(weights, protocol)
  assert b'numpy._core.multiarray\n_reconstruct' in data
  data = data.replace(b'numpy._core.', b'numpy.core.')
  arrays = pystate.read(write(tmp_path, data))
  np.testing.assert_array_equal(arrays['a/large'], PARAMS['a']['large'])


def test_the_parts_of_the_hostile_files_are_right(tmp_path):
  """Each hostile file has one fault: without it, it is read."""
  encoded = parts.call(
    '_codecs encode', parts.text('0' * 16), parts.text('latin1')
  )
  for body in (
    parts.array(),
    parts.array(dtype=parts.F4 + parts.dtype_state()),
    parts.array(data=encoded),
    parts.frombuffer(),
  ):
    (array,) = pystate.read(
      write(tmp_path, parts.whole(parts.holding(body)))
    ).values()
    assert (array.shape, array.dtype) == ((4,), np.float32)
  for protocol in range(2, 6):
    assert len(pystate.read(write(tmp_path, parts.honest(protocol)))) == 4


@pytest.mark.parametrize('files', [hostile.files, damaged.files])
def test_hostile_and_damaged_files_are_refused_in_one_line(tmp_path, files):
  for name, data in files().items():
    path = write(tmp_path, data)
    message = refusal(path)
    assert len(message.splitlines()) == 1, name
    assert message.startswith(str(path)), name
    assert len(message) < 500, name


@pytest.mark.slow
def test_refusing_them_takes_little_memory_and_runs_nothing(tmp_path):
  files = hostile.files() | hostile.bombs() | damaged.files()
  assert len(set(files.values())) >= 200
  folder = tmp_path / 'files'
  folder.mkdir()
  names = {f'{i:03}.pystate': name for i, name in enumerate(files)}
  for path, name in names.items():
    (folder / path).write_bytes(files[name])
  canary = tmp_path / f'{hostile.CANARY}.py'
  canary.write_text('')  # It can be imported, but must not be.
  result = commands.python(
    *('-m', 'tests.perceiver.pickles.read', str(folder)),
    env=os.environ | {'PYTHONPATH': str(tmp_path)},
  )
  assert result.returncode == 0, result.stderr
  report = json.loads(result.stdout)
  # Within its memory, it did nothing but open each file once.
  assert report['events'] == [
    ['open', str(folder / path), 'r'] for path in names
  ]
  assert report['modules'] == []
  refused = {names[x] for x, (error, _) in report['results'].items() if error}
  assert refused == files.keys()


def test_what_is_wrong_is_said(tmp_path):
  def of(body):
    return refusal(write(tmp_path, parts.whole(body)))

  path = tmp_path / 'imagenet.pystate'
  assert of(parts.named('os system')) == (
    f'{path} is not a pickle of weights, or is damaged: at byte 2, weights need'
    " no global 'os.system'. Nothing in it was executed."
  )
  assert of(parts.holding(b'}', 'a' * 300)).startswith(
    f"{path}: 'm/{'a' * 98}…' in 'params' is not an array"
  )
  with pytest.raises(FileNotFoundError, match='There is no file'):
    pystate.read(tmp_path / 'nowhere')
  assert refusal(tmp_path) == f'{tmp_path} is not a file.'


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
  monkeypatch.setattr(pystate, 'MAX_BYTES', 100)
  assert 'bytes, more than 100' in refusal(write(tmp_path, parts.honest()))


@pytest.mark.parametrize('protocol', range(2, 6))
def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path, protocol):
  data = parts.honest(protocol)
  for size in range(len(data)):
    refusal(write(tmp_path, data[:size]))


def test_flipped_bits_give_finite_numbers_or_an_error(tmp_path):
  random.seed(0)
  outcomes = set()
  for _ in range(500):
    data = bytearray(parts.honest(random.randrange(2, 6)))
    for _ in range(random.randrange(1, 4)):
      data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    try:
      arrays = pystate.read(write(tmp_path, data))
    except WeightsError:
      outcomes.add('refused')
    else:
      assert all(np.isfinite(x).all() for x in arrays.values())
      outcomes.add('read')
  assert outcomes == {'read', 'refused'}


def test_instructions_are_counted(tmp_path):
  modules = {f'm{i}': {'w': np.ones(2, np.float32)} for i in range(1000)}
  data = pickle.dumps({'params': modules, 'state': {}}, 2)
  count = sum(1 for _ in pickletools.genops(data))
  assert count < 36 * len(modules) < unpickler.MAX_INSTRUCTIONS
  assert len(pystate.read(write(tmp_path, data))) == len(modules)
