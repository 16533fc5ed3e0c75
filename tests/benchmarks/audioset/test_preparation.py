"""Preparing goes on after clips that kill, and after interruptions."""

import collections
import csv
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest

from experiments.benchmarks.audioset import parts, preparation
from experiments.benchmarks.audioset import source as audioset
from experiments.benchmarks.audioset.media import decoding
from experiments.benchmarks.audioset.preparation import PreparationError
from experiments.errors import DataNotFoundError
from tests.benchmarks.audioset.media import decode_or_die, grey, media, noise

CLASSES = 'index,mid,display_name\n0,/m/0,"A"\n1,/m/1,"B"\n'
OPEN = {'num_examples': None, 'num_classes': 2}


def write_sources(folder, clips, without_clip=0):
  """Clips by name, and CSVs whose rows are theirs; the last 3 are for eval."""
  (folder / 'clips').mkdir(parents=True)
  for name, content in clips.items():
    (folder / 'clips' / name).write_bytes(content)
  (folder / 'class_labels_indices.csv').write_text(CLASSES)
  ids = [name[:11] for name in clips]
  ids = [f'none{i:07}' for i in range(without_clip)] + ids
  rows = [f'{x}, 0.000, 10.000, "/m/{i % 2}"\n' for i, x in enumerate(ids)]
  (folder / 'balanced_train_segments.csv').write_text(''.join(rows[:-3]))
  (folder / 'eval_segments.csv').write_text(''.join(rows[-3:]))


def prepare(folder, **options):
  return preparation.prepare(
    str(folder / 'clips'), str(folder), str(folder / 'data'), 2, **options
  )


def report(folder):
  path = pathlib.Path(audioset.directory(str(folder / 'data'))) / 'report.csv'
  with open(path, newline='', errors='surrogateescape') as file:
    return list(csv.DictReader(file))


def records(folder):
  """Everything in both splits, by id; each clip once."""
  found = {}
  for split in ('train', 'eval'):
    for record in audioset.open_source(str(folder / 'data'), split, **OPEN):
      assert record['id'] not in found
      content = list(record['frames']), record['audio'].tobytes()
      found[record['id']] = (split, record['labels'].tolist(), *content)
  return found


def short_clips(count):
  """Clips of 0.4 s, by name."""
  return {
    f'{"-_"[i % 2]}clip{i:06}.mkv': media(
      times=np.arange(10) / 25,
      images=grey(range(9 * i, 9 * i + 10)),
      samples=noise(19_200, seed=i),
    )
    for i in range(count)
  }


@pytest.fixture(scope='module')
def good():
  return short_clips(10)


def fail(*args):
  raise OSError('failed')


def prepare_until(folder, module, name, **options):
  """Prepares until a function is called, as if the power failed then."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(module, name, fail)
    with pytest.raises(OSError, match='failed'):
      prepare(folder, **options)


def test_records_are_what_was_decoded(tmp_path, good):
  write_sources(tmp_path, good, without_clip=2)
  told = prepare(tmp_path, clips_per_file=3)
  assert '7 clips for train, 3 clips for eval; 0 files skipped, 2 CSV' in told
  assert prepare(tmp_path).endswith('remove it to prepare it again.')
  source = audioset.open_source(
    str(tmp_path / 'data'), 'train', num_examples=7, num_classes=2
  )
  assert len(source.paths) == 3
  source = pickle.loads(pickle.dumps(source))
  for record in source:
    path = tmp_path / 'clips' / f'{record["id"]}.mkv'
    frames, audio = decoding.decode(str(path))
    assert list(record['frames']) == frames
    np.testing.assert_array_equal(record['audio'], audio)
    assert record['audio'].dtype == np.int16
    assert record['labels'].tolist() == [int(record['id'][-1]) % 2]
  with pytest.raises(IndexError):
    source[7]
  with pytest.raises(IndexError):
    source[0]['frames'][10]
  statuses = collections.Counter(row['status'] for row in report(tmp_path))
  assert statuses == {'prepared': 2, 'skipped': 1, 'no clip': 3, 'other': 1}
  missing = [row['id'] for row in report(tmp_path) if row['id']]
  assert missing == ['none0000000', 'none0000001']


@pytest.mark.slow
def test_clips_that_kill_or_hang_are_skipped_and_named(
  tmp_path, good, monkeypatch
):
  write_sources(tmp_path, good | {'hanging0000.mp4': b''})
  os.remove(tmp_path / 'clips' / 'hanging0000.mp4')
  os.mkfifo(tmp_path / 'clips' / 'hanging0000.mp4')
  (tmp_path / 'clips' / 'holiday.mp4').touch()
  (tmp_path / 'clips' / os.fsdecode(b'caf\xe9.mp4')).touch()
  (tmp_path / 'clips' / 'hanging0000.wav').symlink_to('nothing')
  monkeypatch.setattr(parts, 'decode_clip', decode_or_die)
  monkeypatch.setattr(preparation, 'PATIENCE', 5.0)
  told = prepare(tmp_path)
  assert '6 clips for train, 2 clips for eval; 6 files skipped' in told
  reasons = {
    os.path.basename(row['file']): row['reason']
    for row in report(tmp_path)
    if row['file']
  }
  unknown = (
    'Its name is none of <video id>, <video id>_<start> or <video id>_<start>_'
    '<end>.'
  )
  died = 'Its process died (SIGSEGV).'
  assert reasons == {
    '_clip000003.mkv': died,
    '-clip000006.mkv': died,
    'hanging0000.mp4': 'It hung for 5 s.',
    'hanging0000.wav': 'It is a link to nothing.',
    'holiday.mp4': unknown,
    os.fsdecode(b'caf\xe9.mp4'): unknown,
  }


def test_what_cannot_be_prepared(tmp_path, good):
  sources = tmp_path / 'none'
  write_sources(sources, {name: b'' for name in good})
  with pytest.raises(PreparationError, match=r'None of 10 clips .* opened'):
    prepare(sources)
  assert not list((sources / 'data').rglob('*.array_record'))
  with pytest.raises(DataNotFoundError, match='prepare_audioset'):
    records(sources)
  shutil.rmtree(sources / 'clips')
  with pytest.raises(FileNotFoundError, match='no directory'):
    prepare(sources)
  (sources / 'clips').touch()
  with pytest.raises(FileNotFoundError, match='is a file; give the folder'):
    prepare(sources)
  (sources / 'clips').unlink()
  (sources / 'clips').mkdir()
  with pytest.raises(FileNotFoundError, match=r'None of the 10 rows.*no files'):
    prepare(sources)
  for name in good:
    (sources / 'clips' / name).with_suffix('.flv').touch()
  expected = (
    r'looked for <video id>, .* with \.mp4, .*; in it there are 10 \.flv'
  )
  with pytest.raises(FileNotFoundError, match=expected):
    prepare(sources)
  assert not os.path.exists(
    audioset.incomplete_directory(str(sources / 'data'))
  )


def test_other_clips_do_not_go_on_with_what_is_there(tmp_path, good):
  write_sources(tmp_path, good)
  prepare_until(tmp_path, preparation, '_finish')
  name, content = next(iter(good.items()))
  path = tmp_path / 'clips' / name
  path.write_bytes(content + b'0')
  with pytest.raises(PreparationError, match='from other clips or CSVs'):
    prepare(tmp_path)
  path.write_bytes(content)
  assert '7 clips for train' in prepare(tmp_path)


def test_what_is_done_is_not_decoded_again(tmp_path, good):
  write_sources(tmp_path, good)
  # The file of train: all its parts.
  prepare_until(tmp_path, parts, 'join', shard=(0, 2))
  for name in list(good)[:7]:
    path = tmp_path / 'clips' / name
    path.write_bytes(bytes(path.stat().st_size))
  assert '7 clips for train, 3 clips for eval; 0 files' in prepare(tmp_path)
