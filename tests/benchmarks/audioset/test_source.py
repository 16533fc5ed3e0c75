"""The source reads what it is asked for, and names what it cannot read."""

import dataclasses
import itertools
import json
import os
import pathlib

import jax
import numpy as np
import pytest

from configs import digits
from experiments import pipeline
from experiments.benchmarks.audioset import parts, source
from experiments.benchmarks.digits import Digits
from experiments.errors import DamagedRecordError, DataNotFoundError

COUNT = 5  # Clips of 60 frames.


def record(i):
  rng = np.random.default_rng(i)
  return source.Record(
    id=f'clip{i:07}',
    labels=np.array([i % 2]),
    frames=[rng.bytes(100 + j) for j in range(60)],
    audio=rng.integers(-9999, 9999, 60 * 1920).astype(np.int16),
  )


def write_prepared(data_dir, num_classes, files):
  """Writes clips without a decoder: sizes of train's files; 'eval' has none."""
  folder = pathlib.Path(source.directory(str(data_dir)))
  folder.mkdir(parents=True)
  encoded = (source.encode(record(i)) for i in itertools.count())
  for name, size in files.items():
    clips = itertools.islice(encoded, size)
    parts.write_records(str(folder / name), [*itertools.chain(*clips)])
  info = {
    'classes': [[f'/m/{i}', 'AB'[i]] for i in range(num_classes)],
    'splits': {'train': files, 'eval': {}},
  }
  (folder / source.INFO).write_text(json.dumps(info))


@pytest.fixture
def data_dir(tmp_path):
  files = {'train-00000.array_record': 3, 'train-00001.array_record': 2}
  write_prepared(tmp_path, 2, files)
  return tmp_path


def open_source(data_dir, split='train', num_examples=COUNT, num_classes=2):
  return source.open_source(
    str(data_dir), split, num_examples=num_examples, num_classes=num_classes
  )


def test_only_the_seconds_that_are_asked_for_are_read(data_dir):
  source = open_source(data_dir)
  assert len(source) == COUNT
  assert source[0]['hidden'] == ()
  heard = dataclasses.replace(source, hidden=('video',))
  assert heard[0]['hidden'] == ('video',)
  for i in (4, 0, -1, 2):
    expected = record(i % COUNT)
    found = source[i]
    assert found['id'] == expected['id']
    assert found['labels'].tolist() == expected['labels'].tolist()
    np.testing.assert_array_equal(found['audio'], expected['audio'])
    frames = found['frames']
    assert len(frames) == 60
    for j in (3, 20):
      assert frames[j] == expected['frames'][j]
    assert set(frames.seconds) == {0}
    assert frames[-1] == expected['frames'][-1]
    assert set(frames.seconds) == {0, 2}
    assert list(frames) == expected['frames']
    with pytest.raises(IndexError):
      frames[60]


def test_what_is_not_there_is_said(data_dir, tmp_path):
  with pytest.raises(DataNotFoundError, match=r'no clips for .eval'):
    open_source(data_dir, 'eval')
  with pytest.raises(ValueError, match=r'5 clips for .* instead of 6'):
    open_source(data_dir, num_examples=6)
  with pytest.raises(ValueError, match=r'has 2 classes.* is 527'):
    open_source(data_dir, num_classes=527)
  for nowhere in ('', tmp_path / 'nowhere'):
    with pytest.raises(DataNotFoundError, match=r'(?s)generate_.*prepare_au'):
      open_source(nowhere)
  os.remove(open_source(data_dir).paths[1])
  with pytest.raises(DataNotFoundError, match='lacks 1 of its files'):
    open_source(data_dir)


class Sizes(Digits):
  """Its examples are the sizes of clips."""

  modalities = None

  def eval_example(self, record):
    return {'size': np.int64(sum(map(len, record['frames'])))}

  def example_spec(self):
    return {'size': jax.ShapeDtypeStruct((), np.int64)}


def test_bit_rot_is_noticed_and_named(data_dir, caplog):
  source = open_source(data_dir)
  for i, content in (
    (1, record(1)['audio'].tobytes()),
    (4, record(4)['frames'][30]),
  ):
    path = source.paths[i // 3]
    with open(path, 'r+b') as file:
      data = file.read()
      at = data.index(content[:60]) + 50  # Long ones go over blocks.
      file.seek(at)
      file.write(bytes([data[at] ^ 1]))
  with pytest.raises(DamagedRecordError, match=r'00000\.array_record'):
    source[1]
  assert source[4]['frames'][24] == record(4)['frames'][24]
  with pytest.raises(DamagedRecordError, match=r'00001\.array_record'):
    source[4]['frames'][30]
  settings = dict(digits.get_config().task)
  del settings['name']
  batches = pipeline.eval_batches(
    Sizes(**settings), source, batch_size=COUNT, max_damaged=0.5
  )
  (batch,) = batches
  assert batch['mask'].tolist() == [True, False, True, True, False]
  assert sum('Skipped record' in message for message in caplog.messages) == 2
