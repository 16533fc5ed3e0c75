"""TFDS's TFRecord files become array_record files with the same records."""

import json
import os
import struct
import sys

import jax
import pytest
import tensorboardX

from experiments import experiment, sharding, train
from experiments.benchmarks import imagenet
from experiments.benchmarks.imagenet import tfrecords
from experiments.errors import PreparationError
from tests import commands
from tests.benchmarks.imagenet.test_task import COUNTS, tiny
from tests.benchmarks.imagenet.tfrecord_files import (
  convert,
  frame,
  NUM_SHARDS,
  open_all,
  shard_name,
  VERSION,
)


def test_a_record_is_framed_as_the_format_says():
  # The bytes of tf.io.TFRecordWriter for a record b'' are known: the checksum
  # of eight zeros, and of nothing.
  assert frame(b'') == bytes(8) + bytes.fromhex('29039807') + struct.pack(
    '<I', 0xA282EAD8
  )


def test_the_files_of_another_writer_are_read(tmp_path):
  """TensorBoard's event files are TFRecord files, too."""
  with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
    for step in range(3):
      writer.add_scalar('loss', 0.5, step)
  (path,) = tmp_path.iterdir()
  first, *others = tfrecords.read(str(path))
  assert b'brain.Event:2' in first
  assert [b'loss' in record for record in others] == [True] * 3


def test_the_records_are_the_same_in_the_same_order(
  prepared, mini_imagenet_dir
):
  lines = convert(prepared)
  assert lines[0].startswith('Converting 5 of 5 files, 0.0 GB')
  assert lines[1:] == [
    'Flags for these images: --config.task.num_classes=12'
    ' --config.task.num_train=24 --config.task.num_eval=12'
  ]
  today = open_all(mini_imagenet_dir / 'tfds')
  for split, found in open_all(prepared / 'data').items():
    assert list(found) == list(today[split])
  folder = prepared / 'data' / VERSION
  before = json.loads(
    (prepared / 'tfds' / VERSION / tfrecords.INFO).read_text()
  )
  after = json.loads((folder / tfrecords.INFO).read_text())
  assert after == {**before, 'fileFormat': 'array_record'}
  names = {
    shard_name(split, index, 'array_record')
    for split, count in NUM_SHARDS.items()
    for index in range(count)
  }
  others = {tfrecords.INFO, 'features.json', 'label.labels.txt'}
  assert set(os.listdir(folder)) == names | others
  assert os.listdir(folder.parent) == ['5.1.0']


def test_an_old_description_need_not_say_the_format_or_the_names(prepared):
  path = prepared / 'tfds' / VERSION / tfrecords.INFO
  info = json.loads(path.read_text())
  del info['fileFormat']
  for split in info['splits']:
    del split['filepathTemplate']
  path.write_text(json.dumps(info))
  convert(prepared)
  open_all(prepared / 'data')


def test_the_folder_of_the_version_may_be_given_and_a_second_call_does_nothing(
  prepared,
):
  folder = prepared / 'data' / VERSION
  arguments = [str(prepared / 'tfds' / VERSION), str(prepared / 'data')]
  tfrecords.convert(*arguments, print)
  times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  lines = []
  tfrecords.convert(*arguments, lines.append)
  assert lines[0] == f'Already prepared: {folder}'
  assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_they_are_not_converted_in_their_own_place(prepared):
  with pytest.raises(PreparationError, match='give another folder'):
    tfrecords.convert(*[str(prepared / 'tfds')] * 2, print)


def test_the_command_converts(prepared):
  result = commands.run(
    'scripts.prepare_imagenet',
    f'--tfrecords={prepared}/tfds',
    f'--data_dir={prepared}/data',
  )
  assert result.returncode == 0
  assert result.stdout.endswith('--config.task.num_eval=12\n')
  assert len(open_all(prepared / 'data')['train']) == 24


@pytest.mark.parametrize('flags', [[], ['--manual_dir=a', '--tfrecords=b']])
def test_the_command_takes_one_of_both(flags, tmp_path):
  line = commands.error(
    'scripts.prepare_imagenet', *flags, f'--data_dir={tmp_path}'
  )
  assert 'Give either --manual_dir' in line


def test_without_its_package_the_command_says_what_to_install(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'google_crc32c', None)
  monkeypatch.delitem(sys.modules, tfrecords.__name__)
  monkeypatch.delattr(imagenet, 'tfrecords')
  line = commands.error(
    'scripts.prepare_imagenet', f'--tfrecords={tmp_path}', '--data_dir=x'
  )
  assert line.endswith(": pip install -e '.[experiments,tfrecord]' brings it.")


@pytest.mark.slow
def test_converted_files_train_to_the_same_metrics(prepared, mini_imagenet_dir):
  convert(prepared)
  mesh = sharding.make_mesh(1, jax.devices()[:1])
  settings = {'train.epochs': 2.0, 'train.batch_size': 8}

  def train_on(data_dir, name):
    run = experiment.create(tiny(data_dir, **settings), mesh)
    return train.train(run, str(prepared / name))['validation']

  today = train_on(mini_imagenet_dir / 'tfds', 'today')
  assert today['count'] == COUNTS['validation']
  assert train_on(prepared / 'data', 'converted') == today
