"""Folders of any depth, with any classes; numbers that are counted."""

import os
import pathlib
import re
import shutil

import pytest

from experiments import benchmarks
from experiments.benchmarks.imagenet import known, labels, source
from experiments.errors import DamagedRecordError
from tests import commands
from tests.benchmarks.imagenet import forms
from tests.benchmarks.imagenet.test_task import tiny

# Imagenette's classes.
WNIDS = (
  *('n01440764', 'n02102040', 'n02979186', 'n03000684', 'n03028079'),
  *('n03394916', 'n03417042', 'n03425413', 'n03445777', 'n03888257'),
)


def write(root, paths):
  for path in paths:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(path.encode())
  return str(root)


def open_source(root, split='train', num_examples=None, num_classes=None):
  return source.open_source(
    str(root), split, num_examples=num_examples, num_classes=num_classes
  )


def read(root, split='train'):
  """Each image's name and class, in order; its content is its path."""
  found = open_source(root, split)
  classes = source.classes(str(root), None)
  folder = {'train': 'train', 'validation': 'val'}[split]
  for record in found:
    assert record['jpeg'].decode() == f'{folder}/{record["name"]}'
  return [(record['name'], classes[record['label']]) for record in found]


def test_images_at_any_depth_are_sorted_by_their_paths(tmp_path):
  write(
    tmp_path,
    [
      *('train/b/2.png', 'train/b/10.JPG', 'train/b/x/y/1.jpeg'),
      *('train/a/z.JPEG', 'train/a/c/1.Png', 'train/a/c-1.jpg'),
      *('train/a/.hidden.png', 'train/a/.cache/1.png', 'train/.x/1.png'),
      *('train/a/__MACOSX/1.png', 'train/__MACOSX/a/._1.png'),
      *('train/a/boxes.txt', 'train/a/c/list.csv', 'val/b/1.png'),
    ],
  )
  assert read(tmp_path) == [
    ('a/c-1.jpg', 'a'),  # As text, '-' comes before '/'.
    ('a/c/1.Png', 'a'),
    ('a/z.JPEG', 'a'),
    ('b/10.JPG', 'b'),
    ('b/2.png', 'b'),
    ('b/x/y/1.jpeg', 'b'),
  ]
  assert read(tmp_path, 'validation') == [('b/1.png', 'b')]


def test_links_to_folders_are_followed_for_classes_only(tmp_path):
  write(tmp_path, ['train/a/1.png', 'other/2.png', 'val/a/1.png'])
  (tmp_path / 'train' / 'b').symlink_to(tmp_path / 'other')
  (tmp_path / 'train' / 'a' / 'loop').symlink_to('..')
  (tmp_path / 'train' / 'a' / '3.png').symlink_to(tmp_path / 'other' / '2.png')
  found = open_source(tmp_path)
  assert [x['name'] for x in found] == ['a/1.png', 'a/3.png', 'b/2.png']
  assert found[1]['jpeg'] == found[2]['jpeg'] == b'other/2.png'


def test_a_pipe_among_the_images_is_a_damaged_record(tmp_path):
  write(tmp_path, ['train/a/1.png', 'val/a/1.png'])
  os.mkfifo(tmp_path / 'train' / 'a' / '2.png')
  found = open_source(tmp_path)
  with pytest.raises(DamagedRecordError, match=r'^a/2\.png: .* regular file'):
    found[1]


def tiny_task(**numbers):
  task = {f'task.{key}': value for key, value in numbers.items()}
  return benchmarks.create(**tiny('', **task).task)


@pytest.fixture
def imagenette(tmp_path):
  return write(
    tmp_path / 'imagenette2',
    [
      *(f'train/{x}/{x}_{i}.JPEG' for i in range(3) for x in WNIDS),
      *(f'val/{x}/ILSVRC2012_val_{i:08}.JPEG' for i, x in enumerate(WNIDS, 1)),
      'noisy_imagenette.csv',
    ],
  )


FLAGS = (
  '--config.task.num_classes=10 --config.task.num_train=30'
  ' --config.task.num_eval=10'
)


def test_a_subset_is_counted_by_one_line(imagenette):
  result = commands.run('scripts.count_imagenet', f'--data_dir={imagenette}')
  assert (result.returncode, result.stdout) == (0, FLAGS + '\n')


def test_the_counted_numbers_fit_and_name_imagenets_classes(imagenette):
  task = tiny_task(num_classes=10, num_train=30, num_eval=10)
  assert len(task.source('train', imagenette)) == 30
  assert len(task.source('validation', imagenette)) == 10
  names = known.known_names()
  assert task.class_names(imagenette) == [names[wnid] for wnid in WNIDS]


@pytest.mark.parametrize(
  'numbers',
  [
    {'num_classes': 1000, 'num_train': 30},
    {'num_classes': 10, 'num_train': 31},
    {'num_classes': 10, 'num_train': 29},
  ],
)
def test_wrong_numbers_end_in_the_line_of_the_right_ones(imagenette, numbers):
  task = tiny_task(num_eval=10, **numbers)
  with pytest.raises(ValueError, match=rf'there are: {FLAGS}$'):
    task.source('train', imagenette)


@pytest.mark.slow
def test_a_run_starts_with_the_flags_that_its_error_prints(
  mini_imagenet_dir, tmp_path
):
  command = [
    *('-m', 'experiments.run', '--config=configs/imagenet.py:tiny'),
    f'--config.data.dir={mini_imagenet_dir}/folders',
    f'--workdir={tmp_path}/run',
    *('--config.train.steps=2', '--config.train.batch_size=8'),
  ]
  failed = commands.python(*command)
  line = failed.stderr.splitlines()[-1]  # Logs come before it.
  found = line.partition(' the flags for what is there are: ')[2].split()
  assert (failed.returncode, len(found)) == (1, 3)
  assert not (tmp_path / 'run').exists()
  result = commands.python(*command, *found)
  assert result.returncode == 0, result.stderr
  assert (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_a_thousand_other_classes_have_their_own_names(tmp_path):
  paths = [f'train/{i:04}/1.png' for i in range(1000)]
  write(tmp_path, [*paths, 'val/0000/1.png'])
  task = tiny_task(num_classes=1000)
  names = task.class_names(str(tmp_path))
  assert names == [f'{i:04}' for i in range(1000)]
  shutil.rmtree(tmp_path / 'train' / '0000')  # Such as for another run.
  known_names = list(known.known_names().values())
  assert task.class_names(str(tmp_path)) == known_names


@pytest.mark.parametrize(
  ('remove', 'message'),
  [
    ('val', r'No ImageNet \(validation\) at '),
    ('train', r'No ImageNet \(train\) at '),
    ('train/*', r'/train has 0 classes; missing: n01440764, .* more\.$'),
    (
      'val/*/*',
      r'/val has 0 images; missing: .* There are no files in it\.$',
    ),
  ],
)
def test_what_cannot_be_counted_is_one_line(imagenette, remove, message):
  for path in pathlib.Path(imagenette).glob(remove):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  line = commands.error('scripts.count_imagenet', f'--data_dir={imagenette}')
  assert re.search(message, line)


def test_the_kits_ids_may_be_of_any_order_but_of_one_class_each(tmp_path):
  path = tmp_path / labels.GROUND_TRUTH
  path.write_text(forms.ground_truth())
  truth = known.known_validation_labels()
  found = labels.read(str(path), WNIDS)
  assert {stem: label.text for stem, label in found.items()} == truth
  assert found['ILSVRC2012_val_00000007'].line == 7


def change(number, text):
  """Changes a line of the kit's file."""

  def change_lines(lines):
    lines[number - 1] = text
    return lines

  return change_lines


@pytest.mark.parametrize(
  ('change_lines', 'message'),
  [
    (lambda x: x[:-1], r'has 49999 lines, but there are 50000 validation'),
    (lambda x: [*x, '1'], r'has 50001 lines'),
    (lambda x: ['<html>'], r'has 1 lines'),
    (
      change(49_000, '1001'),
      r'line 49000: ILSVRC2012_val_00049000 is of the class n\d{8}, but its'
      r" ILSVRC2012_ID is '1001', which contradicts line \d+\. Unpack the",
    ),
    (lambda x: x[1:] + x[:1], r'line \d+: .* contradicts line \d+\.'),
  ],
)
def test_a_changed_ground_truth_is_named(tmp_path, change_lines, message):
  path = tmp_path / labels.GROUND_TRUTH
  path.write_text('\n'.join(change_lines(forms.ground_truth().splitlines())))
  with pytest.raises(ValueError, match=f'{labels.GROUND_TRUTH}.*{message}'):
    labels.read(str(path), WNIDS)


def test_a_file_of_labels_that_is_too_large_is_not_read(tmp_path):
  path = tmp_path / 'val.txt'
  path.touch()
  os.truncate(path, labels.MAX_BYTES + 1)
  with pytest.raises(ValueError, match=r'val\.txt has 268435457 bytes; of lab'):
    labels.read(str(path), WNIDS)
