"""The CSVs are read as they are."""

import pytest

from experiments.benchmarks.audioset import csv_files
from experiments.benchmarks.audioset.csv_files import Segment

# As downloaded, but for the number of lines.
CLASSES = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/t/dd00088,"Gurgling"
"""
SEGMENTS = """\
# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=1
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
-_aaaaaaaaa, 0.000, 10.000, "/m/05zppz"
"""
HEADER = SEGMENTS.count('#')


def write(folder, *, classes=CLASSES, **segments):
  (folder / 'class_labels_indices.csv').write_text(classes)
  for name, text in segments.items():
    (folder / f'{name}_segments.csv').write_text(text)
  return csv_files.read_segments(
    str(folder), csv_files.read_classes(str(folder))
  )


def test_official_files(tmp_path):
  segments = write(
    tmp_path,
    balanced_train=SEGMENTS,
    unbalanced_train=SEGMENTS.replace('--P', 'AAP').replace('-_a', '-_b'),
    eval=SEGMENTS.replace('--P', 'BBP').replace('-_a', '-_c'),
  )
  assert segments[:3] == [
    Segment('train', '--PJHxphWEs', 30.0, 40.0, (0, 2)),
    Segment('train', '-_aaaaaaaaa', 0.0, 10.0, (1,)),
    Segment('train', 'AAPJHxphWEs', 30.0, 40.0, (0, 2)),
  ]
  assert [x.split for x in segments] == ['train'] * 4 + ['eval'] * 2
  classes = csv_files.read_classes(str(tmp_path))
  assert classes.mids == ('/m/09x0r', '/m/05zppz', '/t/dd00088')
  assert classes.names[1] == 'Male speech, man speaking'


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ('short, 0.0, 10.0, "/m/09x0r"', "'short' is not the id"),
    ('AAAAAAAAAAA, 0.0, 10.0', 'found 3 fields'),
    ('AAAAAAAAAAA, 0.0, 10.0, /m/09x0r, /m/05zppz', 'found 5 fields'),
    ('AAAAAAAAAAA, zero, 10.0, "/m/09x0r"', "not seconds: 'zero'"),
    ('AAAAAAAAAAA, 10.0, 0.0, "/m/09x0r"', 'from 10.0 to 0.0'),
    ('AAAAAAAAAAA, 0.0, nan, "/m/09x0r"', 'from 0.0 to nan'),
    ('AAAAAAAAAAA, 5.0, 16.0, "/m/09x0r"', 'from 5.0 to 16.0 s is longer'),
    ('AAAAAAAAAAA, 0.0, 10.0, "/m/09x0r,/m/0"', "label '/m/0' is not in"),
    ('AAAAAAAAAAA, 0.0, 10.0, ""', "label '' is not in"),
    ('-_aaaaaaaaa, 0.0, 10.0, "/m/09x0r"', 'is in .*line 5 already'),
  ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
  with pytest.raises(ValueError, match=message) as error:
    write(tmp_path, eval=SEGMENTS + row + '\n')
  assert f'eval_segments.csv, line {HEADER + 3}' in str(error.value)


@pytest.mark.parametrize(
  ('classes', 'message'),
  [
    ('', 'has 0 classes'),
    (CLASSES.replace('\n1,', '\n7,'), 'not 0 to 2'),
    (CLASSES.replace('\n1,', '\n0,'), 'line 3: index 0 occurs twice'),
    (CLASSES.replace('\n1,', '\nx,'), 'line 3: expected'),
    (CLASSES.replace('/m/05zppz', '/m/09x0r'), 'same mid'),
    (CLASSES + '3,"open\n', 'not a CSV file'),
  ],
)
def test_bad_classes(tmp_path, classes, message):
  with pytest.raises(ValueError, match=message):
    write(tmp_path, classes=classes, eval=SEGMENTS)


def test_csvs_that_are_missing_are_named(tmp_path):
  for name in ('train.csv', 'eval.csv'):
    (tmp_path / name).touch()
  with pytest.raises(FileNotFoundError) as error:
    csv_files.read_classes(str(tmp_path))
  assert str(error.value) == (
    f"There is no class_labels_indices.csv in '{tmp_path}'; in it there are"
    " 'eval.csv', 'train.csv'."
  )
  with pytest.raises(FileNotFoundError, match='is a file; give the folder'):
    csv_files.read_classes(str(tmp_path / 'eval.csv'))
  with pytest.raises(FileNotFoundError, match=r'balanced_train.*eval_segments'):
    write(tmp_path)


def test_ten_seconds_in_decimals_are_ten_seconds(tmp_path):
  assert 16.1 - 6.1 > 10
  row = 'AAAAAAAAAAA, 6.1, 16.1, "/m/09x0r"\n'
  (segment,) = write(tmp_path, eval=row)
  assert (segment.start, segment.end) == (6.1, 16.1)
