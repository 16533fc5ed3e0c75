"""ImageNet's images, wherever they are kept."""

import concurrent.futures
import multiprocessing
import operator
import pathlib
import pickle
import posixpath
import shutil

import pytest

from experiments.benchmarks.imagenet import folders, known, standin
from experiments.benchmarks.imagenet import source as imagenet
from experiments.errors import DataNotFoundError

COUNTS = {'train': 24, 'validation': 12}
WNIDS = standin.wnids()
LAYOUTS = ('folders', 'flat', 'tfds', 'parquet', 'tars')


@pytest.fixture
def copy(mini_imagenet_dir, tmp_path):
  """Copies a layout, so that it may be damaged."""
  return lambda layout: pathlib.Path(
    shutil.copytree(mini_imagenet_dir / layout, tmp_path / layout)
  )


def open_source(data_dir, split='train', **numbers):
  numbers = {'num_examples': COUNTS[split], 'num_classes': 12} | numbers
  return imagenet.open_source(str(data_dir), split, **numbers)


def contents(records):
  return sorted(
    (posixpath.basename(r['name']), r['jpeg'], r['label']) for r in records
  )


@pytest.mark.parametrize('split', COUNTS)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_all_layouts_have_the_images_that_were_drawn(
  mini_imagenet_dir, layout, split
):
  source = open_source(mini_imagenet_dir / layout, split)
  drawn = standin.records(split, COUNTS[split], seed=3)
  assert contents(source) == contents(drawn)
  assert len(source) == COUNTS[split]
  with pytest.raises(IndexError):
    source[len(source)]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_labels_count_the_sorted_wnids(mini_imagenet_dir, layout):
  for record in open_source(mini_imagenet_dir / layout):
    name = posixpath.basename(record['name'])
    assert name.startswith(f'{WNIDS[record["label"]]}_')


def test_the_known_lists_are_sorted_and_agree_with_kaggle():
  wnids = known.known_wnids()
  assert wnids == sorted(set(wnids))
  assert len(wnids) == 1000
  labels = known.known_validation_labels()
  assert len(labels) == 50_000
  assert set(labels.values()) == set(wnids)
  # A line of LOC_val_solution.csv.
  assert labels['ILSVRC2012_val_00048981'] == 'n03995372'


def test_a_version_or_what_is_above_it_may_be_given(
  mini_imagenet_dir, tmp_path
):
  version = mini_imagenet_dir / 'tfds' / 'imagenet2012' / '5.1.0'
  assert contents(open_source(version)) == contents(
    open_source(mini_imagenet_dir / 'tfds')
  )
  versions = tmp_path / 'imagenet2012'
  for name in ('5.1.0', '5.10.0', '5.9.0', 'incomplete.ABC_6.0.0'):
    (versions / name).mkdir(parents=True)
    (versions / name / 'dataset_info.json').touch()
  assert imagenet.prepared_folder(str(tmp_path)) == str(versions / '5.10.0')


def test_kaggle_s_archive_is_found_from_its_top(mini_imagenet_dir, tmp_path):
  flat = tmp_path / 'ILSVRC' / 'Data' / 'CLS-LOC'
  shutil.copytree(mini_imagenet_dir / 'flat', flat)
  (flat / 'LOC_val_solution.csv').rename(tmp_path / 'LOC_val_solution.csv')
  assert contents(open_source(tmp_path, 'validation')) == contents(
    open_source(mini_imagenet_dir / 'folders', 'validation')
  )


@pytest.mark.parametrize('folder', ['.', 'val'])
@pytest.mark.parametrize('as_number', [False, True])
def test_val_txt_has_wnids_or_numbers(
  copy, mini_imagenet_dir, folder, as_number
):
  expected = contents(open_source(mini_imagenet_dir / 'flat', 'validation'))
  flat = copy('flat')
  (flat / 'LOC_val_solution.csv').unlink()
  (flat / folder / 'val.txt').write_text(
    ''.join(
      f'{name} {label if as_number else WNIDS[label]}\n'
      for name, _, label in expected
    )
  )
  assert contents(open_source(flat, 'validation')) == expected


def test_the_real_validation_images_need_no_labels(copy, monkeypatch):
  monkeypatch.setattr(folders, 'NUM_VALIDATION', 12)
  flat = copy('flat')
  (flat / 'LOC_val_solution.csv').unlink()
  shutil.rmtree(flat / 'train')
  (flat / 'val').rename(flat / 'validation')
  source = open_source(flat, 'validation', num_classes=1000)
  wnids = known.known_wnids()
  labels = known.known_validation_labels()
  for record in source:
    stem = record['name'].removesuffix('.JPEG')
    assert wnids[record['label']] == labels[stem]


@pytest.mark.slow
def test_processes_read_the_same_at_random(mini_imagenet_dir):
  order = [7, 0, 11, 3, 7]
  with concurrent.futures.ProcessPoolExecutor(
    2, mp_context=multiprocessing.get_context('spawn')
  ) as pool:
    for layout in ('flat', 'tfds', 'parquet', 'tars'):
      source = open_source(mini_imagenet_dir / layout, 'validation')
      expected = [source[i] for i in order]  # Its files are open now.
      read = pool.map(operator.getitem, [source] * len(order), order)
      assert list(read) == expected


def test_a_source_is_small(mini_imagenet_dir):
  """Less than 50 bytes a record beyond what any source takes."""
  source = open_source(mini_imagenet_dir / 'folders')
  many = folders.FolderSource(
    source.folder,
    source.subfolders,
    source.names.repeat(1000),
    source.labels.repeat(1000),
  )
  grown = len(pickle.dumps(many)) - len(pickle.dumps(source))
  assert grown < 50 * (len(many) - len(source))


@pytest.mark.parametrize('data_dir', [None, '', 'nowhere', '.'])
def test_no_data_says_where_it_was_looked_for(data_dir, tmp_path):
  if data_dir:
    data_dir = str(tmp_path / data_dir)
  with pytest.raises(DataNotFoundError) as caught:
    imagenet.open_source(
      data_dir, 'validation', num_examples=12, num_classes=12
    )
  for part in (
    f'data.dir={data_dir!r}',
    'imagenet2012/<version>/',
    'val/ or validation/',
    'parquet files (val-*.parquet)',
    'tar shards (*val-*.tar, both also in data/)',
    'scripts.prepare_imagenet',
    'scripts.generate_imagenet',
  ):
    assert part in str(caught.value)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(
  ('split', 'key'), [('train', 'num_train'), ('validation', 'num_eval')]
)
def test_another_number_of_images_is_an_error(
  mini_imagenet_dir, layout, split, key
):
  message = f'has {COUNTS[split]} images, but task.{key}=7'
  with pytest.raises(ValueError, match=message):
    open_source(mini_imagenet_dir / layout, split, num_examples=7)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_another_number_of_classes_is_an_error(mini_imagenet_dir, layout):
  message = r'has 12 classes, but task\.num_classes=1000'
  if layout == 'tars':  # They have labels only.
    message += r': the largest label is 11\.'
  else:
    message += r'; missing: (n\d{8}, ){4}n\d{8} and 983 more\.'
    with pytest.raises(ValueError, match=message):
      imagenet.classes(str(mini_imagenet_dir / layout), 1000)
  with pytest.raises(ValueError, match=message):
    open_source(mini_imagenet_dir / layout, num_classes=1000)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_all_layouts_are_counted_and_wrong_numbers_end_in_the_flags(
  mini_imagenet_dir, layout
):
  data_dir = str(mini_imagenet_dir / layout)
  counted = {'num_classes': 12, 'num_train': 24, 'num_eval': 12}
  assert imagenet.count(data_dir) == {
    f'task.{key}': number for key, number in counted.items()
  }
  flags = ' '.join(f'--config.task.{k}={n}' for k, n in counted.items())
  for wrong in ({'num_examples': 7}, {'num_classes': 13}):
    with pytest.raises(ValueError, match=f' are: {flags}$'):
      open_source(data_dir, **wrong)


CSV = 'LOC_val_solution.csv'
INFO, FEATURES = (
  f'imagenet2012/5.1.0/{name}.json' for name in ('dataset_info', 'features')
)


@pytest.mark.parametrize(
  ('file', 'before', 'after', 'message'),
  [
    (
      *(CSV, 'val_00000003', 'val_3'),
      r'csv has no label for images in .*/val: ILSVRC2012_val_00000003\.',
    ),
    (
      *(CSV, WNIDS[4], 'n0'),
      r'csv has labels that are neither .* 12 classes .*: n0\.',
    ),
    (
      *(CSV, 'ImageId,PredictionString', 'header'),
      r"csv, line 1: expected an image name and its class, found 'header'\.",
    ),
    (
      *(INFO, '"array_record"', '"tfrecord"'),
      '5.1.0 was prepared as tfrecord.*no random access.*--tfrecords=',
    ),
    (
      *(INFO, '"validation"', '"test"'),
      "5.1.0 has no split 'validation'; it has: train, test. Prepare it from",
    ),
    (
      *(INFO, '{SHARD_X_OF_Y}', '{SHARD_X_OF_Y}.part'),
      'lacks 1 of its files, the first one .*/imagenet2012-validation.array',
    ),
    (
      *(FEATURES, '"file_name"', '"id"'),
      "features.* id.*ImageNet's are image, label and file_name",
    ),
  ],
)
def test_wrong_content_is_named(copy, file, before, after, message):
  root = copy('flat' if file == CSV else 'tfds')
  text = (root / file).read_text()
  assert before in text
  (root / file).write_text(text.replace(before, after))
  with pytest.raises((DataNotFoundError, ValueError), match=message):
    open_source(root, 'validation')


@pytest.mark.parametrize('file', [INFO, FEATURES])
@pytest.mark.parametrize('content', ['', '{"featuresDict": {', '[1]'])
def test_a_damaged_description_is_one_error(copy, file, content):
  root = copy('tfds')
  (root / file).write_text(content)
  with pytest.raises(
    ValueError, match=r'/5\.1\.0 is no data set that TFDS can'
  ):
    open_source(root)


def remove_class(root):
  shutil.rmtree(root / 'train' / WNIDS[4])


def remove(pattern):
  def change(root):
    for path in sorted(root.glob(pattern)):
      path.unlink()

  return change


def add_folder(path):
  return lambda root: (root / path / 'thumbnails').mkdir()


def move_away(name):
  return lambda root: (root / name).rename(root / 'removed')


def rename(split, to):
  """Moves each image of a split."""

  def change(root):
    for path in sorted((root / split).rglob('*.JPEG')):
      new = root / split / to(path.relative_to(root / split))
      new.parent.mkdir(exist_ok=True)
      path.rename(new)
      if path.parent != root / split and not any(path.parent.iterdir()):
        path.parent.rmdir()

  return change


def as_webp(path):
  return path.with_suffix('.WEBP')


def under_other_names(path):
  return pathlib.Path(f'x_{path.parent}', path.name)


def flatten(root):
  rename('train', lambda path: path.name)(root)


def into_tars(root):
  for wnid in WNIDS:
    shutil.rmtree(root / 'train' / wnid)
    (root / 'train' / f'{wnid}.tar').touch()


# The labels of both splits would be wrong.
ELEVEN = f'/train has 11 classes, but .*num_classes=12; missing: {WNIDS[4]}'
ONLY = r'Only \.jpeg, \.jpg and \.png files \(in capitals, too\) below .*/'
CLASSES = rf'{ONLY}train/<class>/ are images; there are also: '


@pytest.mark.parametrize(
  ('layout', 'split', 'damage', 'message'),
  [
    *(('folders', split, remove_class, ELEVEN) for split in COUNTS),
    (
      *('folders', 'train', add_folder('train')),
      r'/train has 13 classes, but .*num_classes=12; extra: thumbnails\.',
    ),
    (
      *('folders', 'train', remove(f'train/{WNIDS[4]}/*')),
      rf'has 22 images, but task.num_train=24; missing: {WNIDS[4]}\.',
    ),
    (
      *('folders', 'validation', add_folder('val')),
      r'/val has folders that are not classes: thumbnails\.',
    ),
    (
      *('flat', 'validation', move_away(CSV)),
      'No labels for .*/val: looked for .*LOC_val_solution.csv.*/val/val.txt',
    ),
    (
      *('flat', 'validation', move_away('train')),
      'No .*/train, whose folders would be the task.num_classes=12',
    ),
    (
      *('folders', 'train', rename('train', as_webp)),
      rf'train has 0 images.* {CLASSES}24 \.webp, such as'
      r' n\d+/n\d+_\d+\.WEBP\.$',
    ),
    (
      *('folders', 'train', flatten),
      rf'train has 0 classes.* {CLASSES}24 \.jpeg, such as n\d+_\d+\.JPEG\.$',
    ),
    (
      *('folders', 'train', into_tars),
      rf'train has 0 classes.* {CLASSES}12 \.tar, such as {WNIDS[0]}\.tar\.'
      r' Unpack each tar into a folder of its name\.$',
    ),
    (
      *('folders', 'train', remove('train/*/*')),
      r'train has 0 images.* There are no files in it\.$',
    ),
    (
      *('folders', 'validation', rename('val', under_other_names)),
      r'/val has folders that are not classes: x_n\d+, (x_n\d+, ){3}x_n\d+ and',
    ),
    (
      *('flat', 'validation', rename('val', as_webp)),
      r'val has 0 images, but task\.num_eval=12\. .*csv also has labels of'
      r' images that are missing: (ILSVRC2012_val_\d{8}, ){4}'
      r'ILSVRC2012_val_\d{8}'
      rf' and 7 more\. {ONLY}val are images; there are also: 12 \.webp, such'
      r' as ILSVRC2012_val_00000001\.WEBP\.$',
    ),
    (
      *('flat', 'validation', remove('val/*00000001.JPEG')),
      r'val has 11 images, but task\.num_eval=12\. .*csv also has labels of'
      r' images that are missing: ILSVRC2012_val_\d{8}\. If nothing is missing,'
      r' the flags for what is there are: --config\.task\.num_classes=12'
      r' --config\.task\.num_train=24 --config\.task\.num_eval=11$',
    ),
  ],
)
def test_what_is_wrong_with_folders_is_named(
  copy, layout, split, damage, message
):
  root = copy(layout)
  damage(root)
  with pytest.raises((DataNotFoundError, ValueError), match=message):
    open_source(root, split)


def test_linked_classes_are_looked_into(copy, tmp_path):
  root = copy('folders')
  rename('train', as_webp)(root)
  (root / 'train' / WNIDS[0]).rename(tmp_path / 'elsewhere')
  (root / 'train' / WNIDS[0]).symlink_to(tmp_path / 'elsewhere')
  with pytest.raises(ValueError, match=rf'24 \.webp, such as {WNIDS[1]}/'):
    open_source(root)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ('nothing', r'nothing cannot be read: No such file or directory\.'),
    ('empty', r'empty is empty\.'),
    ('file.tar', r'file\.tar is a file\.'),
    ('data', r'data has ILSVRC2012_img_val\.tar, test/, training/\.'),
  ],
)
def test_what_lies_there_instead_of_folders_is_named(tmp_path, given, message):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'file.tar').touch()
  for name in ('training', 'test', '.hidden'):
    (tmp_path / 'data' / name).mkdir(parents=True)
  (tmp_path / 'data' / 'ILSVRC2012_img_val.tar').touch()
  with pytest.raises(DataNotFoundError, match=message):
    open_source(tmp_path / given)
  with pytest.raises(DataNotFoundError, match=message):
    imagenet.classes(str(tmp_path / given), 12)
