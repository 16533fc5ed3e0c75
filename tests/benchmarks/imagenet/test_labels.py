"""Labels in files: what they name, and what is refused."""

import pytest

from experiments.benchmarks.imagenet import folders, known, labels

NUMBERED = sorted(str(i) for i in range(12))  # '10' comes after '1'.


def write(root, text, name='val.txt', **settings):
  path = root / name
  path.write_text(text, **settings)
  return str(path)


def read(path, classes):
  """The class's name by image."""
  found = labels.read(path, classes)
  indices = labels.indices(path, found, classes)
  return {stem: classes[i] for stem, i in zip(found, indices, strict=True)}


def test_numeric_folders_are_meant_by_their_names(tmp_path):
  for name in NUMBERED:
    (tmp_path / 'train' / name).mkdir(parents=True)
  (tmp_path / 'val').mkdir()
  truth = {f'{i}.JPEG': str(i % 12) for i in range(60)}
  for name in truth:
    (tmp_path / 'val' / name).touch()
  write(tmp_path, ''.join(f'{x} {label}\n' for x, label in truth.items()))
  source = folders.open_folders(
    str(tmp_path), 'validation', num_examples=60, num_classes=12
  )
  classes = folders.find_classes(str(tmp_path), 12)
  assert {x['name']: classes[x['label']] for x in source} == truth


@pytest.mark.parametrize(
  ('classes', 'lines', 'message'),
  [
    # Folders that count from 1, labels that count from 0.
    (
      sorted(str(i) for i in range(1, 13)),
      ['a 1', 'b 0', 'c 11'],
      r"line 1: '1' could be the class '1' by its name, or the class '10' by"
      r" its number, .* from 0; line 2 has '0', which is not a name\. Write",
    ),
    (
      [f'{i:02}' for i in range(1, 13)],
      ['a 12', 'b 1'],
      r"line 2: '1' could be the class '01' by its name, or the class '02' by",
    ),
    (['01', '1', '2'], ['a 0', 'b 1'], r"'1' could be the class '01'"),
    (
      ['cat', 'dog'],
      ['a 0', 'b 2'],
      r"neither one of the 2 .*: 2\. The first is in line 2\. .* such as 'cat',"
      r' or numbered from 0 to 1 in the order of these names\.',
    ),
    (['cat', 'dog'], ['a Cat'], r'neither .*: Cat\.'),
    (['golden', 'grey'], ['a golden retriever'], r': golden retriever\.'),
    (
      ['cat', 'dog'],
      ['a.JPEG cat', 'b.JPEG cat', 'val/a.jpg dog'],
      r"line 3: the class of a is 'dog', but in line 1 it is 'cat'\.",
    ),
    (['cat'], ['a cat', 'b.JPEG'], r"line 2: expected .*, found 'b.JPEG'\."),
  ],
)
def test_what_could_mean_two_things_is_an_error(
  tmp_path, classes, lines, message
):
  path = write(tmp_path, '\n'.join(lines))
  with pytest.raises(ValueError, match=f'val.txt.*{message}'):
    read(path, classes)


@pytest.mark.parametrize(
  ('classes', 'label', 'expected'),
  [
    (NUMBERED, '10', '10'),
    ([f'{i:02}' for i in range(12)], '1', '01'),  # By name and by number.
    ([f'{i:02}' for i in range(12)], '01', '01'),
    (['1', '2', 'x'], '2', '2'),
    (['cat', 'dog'], '1', 'dog'),
    (['golden', 'golden retriever'], 'golden retriever', 'golden retriever'),
    (['a 1 2 3 4', 'a'], 'a 1 2 3 4', 'a 1 2 3 4'),  # No boxes, as of Kaggle.
    (['tench', 'tench, x'], 'tench, x', 'tench, x'),
  ],
)
def test_names_come_first(tmp_path, classes, label, expected):
  path = write(tmp_path, f'x.JPEG {label}\n')
  assert read(path, classes) == {'x': expected}


LINES = 'my cat.JPEG cat\nsub/b.jpg dog\nc dog\n'
EXPECTED = {'my cat': 'cat', 'b': 'dog', 'c': 'dog'}


@pytest.mark.parametrize(
  'text',
  [
    LINES,
    LINES.replace('\n', '\r\n'),
    LINES.replace('\n', ' \t\n\n'),
    LINES.replace('.JPEG ', '.JPEG\t').replace('jpg ', 'jpg,'),
  ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_text_is_read_as_editors_write_it(tmp_path, text, encoding):
  path = write(tmp_path, text, encoding=encoding, newline='')
  assert read(path, ['cat', 'dog']) == EXPECTED


def test_csv_is_read_as_kaggle_and_pandas_write_it(tmp_path):
  text = (
    '\ufeffImageId,PredictionString\r\n'
    'a,n2 85 1 499 272 \r\n'
    'b,n1 1 2 3 4 n1 5 6 7 8 \r\n'
    '"c, d","tench, Tinca tinca"\r\n'
  )
  path = write(
    tmp_path, text, 'LOC_val_solution.csv', encoding='utf-8', newline=''
  )
  assert read(path, ['n1', 'n2', 'tench, Tinca tinca']) == {
    'a': 'n2',
    'b': 'n1',
    'c, d': 'tench, Tinca tinca',
  }


def test_names_need_be_no_utf_8(tmp_path):
  path = tmp_path / 'val.txt'
  path.write_bytes(b'\xff.JPEG cat\n')
  assert read(str(path), ['cat']) == {'\udcff': 'cat'}


@pytest.mark.parametrize('name', ['val.txt', 'LOC_val_solution.csv'])
def test_what_is_no_text_is_named(tmp_path, name):
  path = tmp_path / name
  path.write_bytes(b'\xff\xfe\x00\xd8\x00')
  with pytest.raises(ValueError, match=f'{name} is not a text of labels: '):
    labels.read(str(path), ['cat'])


def test_ilsvrc_s_own_ids_are_no_numbers_of_classes(tmp_path):
  wnids = known.known_wnids()
  truth = list(known.known_validation_labels().items())[:20]
  lines = [f'{stem}.JPEG {wnids.index(wnid)}' for stem, wnid in truth]
  assert read(write(tmp_path, '\n'.join(lines)), wnids) == dict(truth)
  # The first image's ILSVRC2012_ID is 490; as a number of the sorted names,
  # its class is 65.
  lines[0] = 'ILSVRC2012_val_00000001.JPEG 490'
  message = (
    'line 1: ILSVRC2012_val_00000001 is of the class n01751748, number 65 of'
    ".* its label is '490'. ILSVRC2012_ID.* write wnids"
  )
  with pytest.raises(ValueError, match=message):
    read(write(tmp_path, '\n'.join(lines)), wnids)
