"""Weights in several files with an index (`model.safetensors.index.json`)."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from perceiver import exports, weight_files
from tests.perceiver.small_models import TRANSFORMERS
from tests.perceiver.test_exports import (
  assert_refused,
  change_config,
  HEAD,
  put,
)

FIRST = 'model-00001-of-00002.safetensors'
SECOND = 'model-00002-of-00002.safetensors'


def split(kind, folder):
  """Copies a model of transformers, with its tensors in two files."""
  shutil.copytree(TRANSFORMERS / kind, folder)
  path = folder / weight_files.TENSORS
  tensors = safetensors.numpy.load_file(path)
  path.unlink()
  where = {
    name: (FIRST, SECOND)[i % 2] for i, name in enumerate(sorted(tensors))
  }
  for shard in (FIRST, SECOND):
    part = {x: tensors[x] for x in tensors if where[x] == shard}
    (folder / shard).write_bytes(safetensors.numpy.save(part))
  index = {'metadata': {'total_size': 0}, 'weight_map': where}
  (folder / weight_files.INDEX).write_text(json.dumps(index))


@pytest.fixture
def shards(tmp_path):
  split('fourier', tmp_path / 'shards')
  return tmp_path / 'shards'


def test_shards_are_read_as_one_file(shards):
  whole, parts = (
    weight_files.read_tensors(x) for x in (TRANSFORMERS / 'fourier', shards)
  )
  assert whole.keys() == parts.keys()
  for name, tensor in whole.items():
    np.testing.assert_array_equal(parts[name], tensor)
  exports.read(shards)  # Whoever reads a folder reads shards.
  # One file wins, as in transformers.
  (shards / weight_files.TENSORS).write_bytes(b'')
  assert_refused(shards, f'{weight_files.TENSORS} is damaged')


def test_a_shard_may_have_what_does_nothing_in_inference(tmp_path):
  split('conv', tmp_path / 'conv')
  (_, whole), (_, parts) = (
    exports.read(x) for x in (TRANSFORMERS / 'conv', tmp_path / 'conv')
  )
  for name, tensor in whole.items():
    np.testing.assert_array_equal(parts[name], tensor)


def rename(new):
  """Names another file for one of the tensors."""

  def change(index):
    index['weight_map'][HEAD] = new

  return change


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda d: d.pop('weight_map'), "'weight_map' must be an object"),
    (put(weight_map=[]), "'weight_map' must be an object"),
    (rename(3), "'weight_map' must be an object that names"),
    (rename('../fourier/x.safetensors'), 'file of this folder'),
    (rename('/etc/passwd'), 'file of this folder'),
    (rename('pytorch_model.bin'), 'a .safetensors file'),
    (rename('a' * 1000 + '.safetensors'), 'a .safetensors file'),
    (lambda d: d['weight_map'].pop(HEAD), f"only the file has '{HEAD}'"),
    (lambda d: d['weight_map'].update(x=FIRST), "only the index has 'x'"),
    (
      lambda d: d['weight_map'].update(dict.fromkeys(d['weight_map'], FIRST)),
      'contradict each other: only the index has',
    ),
  ],
)
def test_shards_that_contradict_their_index_are_refused(
  shards, change, message
):
  change_config(shards, change, weight_files.INDEX)
  assert_refused(shards, message)


def test_a_shard_is_a_file_of_the_folder(shards, tmp_path):
  def move(index):
    files = index['weight_map']
    files.update({k: 'x.safetensors' for k, v in files.items() if v == FIRST})

  change_config(shards, move, weight_files.INDEX)
  assert_refused(shards, 'has no x.safetensors; it', FileNotFoundError)
  shard = shards / 'x.safetensors'
  shard.symlink_to((shards / FIRST).rename(tmp_path / 'elsewhere'))
  assert_refused(shards, 'x.safetensors is a link out of the folder')
  shard.unlink()
  (tmp_path / 'elsewhere').rename(shard)
  exports.read(shards)
