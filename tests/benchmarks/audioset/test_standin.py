"""Generated clips pass through the same files and loaders."""

import numpy as np
import pytest

from experiments.benchmarks.audioset import csv_files, preparation, standin
from experiments.benchmarks.audioset import source as audioset

SIZES = {name: 3 for name in standin.SIZES}


@pytest.fixture
def folder(tmp_path):
  standin.generate(str(tmp_path / 'events'), 2, sizes=SIZES)
  return tmp_path / 'events'


def test_events_are_prepared_as_clips_are(folder, tmp_path):
  told = preparation.prepare(
    str(folder / 'clips'), str(folder / 'csv'), str(tmp_path), 2
  )
  assert '6 clips for train, 3 clips for eval; 0 files skipped, 0 CSV' in told
  source = audioset.open_source(
    str(tmp_path), 'eval', num_examples=3, num_classes=len(standin.CLASSES)
  )
  for record in source:
    assert len(record['frames']) in (75, 76, 77)  # As AAC pads the sound.
    assert np.abs(record['audio'].astype(int)).max() > 500
  # The same seed gives the same files.
  standin.generate(str(tmp_path / 'again'), 1, sizes=SIZES)
  for path in folder.rglob('*.*'):
    again = tmp_path / 'again' / path.relative_to(folder)
    assert path.read_bytes() == again.read_bytes()
  with pytest.raises(FileExistsError, match='again exists'):
    standin.generate(str(tmp_path / 'again'), 1)


def test_a_pair_is_its_sound_and_its_picture(folder):
  classes = csv_files.read_classes(str(folder / 'csv'))
  assert classes.names == standin.CLASSES
  assert len(classes.names) >= 8
  segments = csv_files.read_segments(str(folder / 'csv'), classes)
  assert len(segments) == 9
  for segment in segments:
    labels = set(segment.labels)
    assert 2 <= len(labels) <= 6
    for i in range(4):
      assert (8 + i in labels) == ({i, 4 + i} <= labels)
