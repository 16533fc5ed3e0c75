"""ImageNet's classes have names, in the order of the labels."""

import shutil

import pytest

from configs import imagenet
from experiments import benchmarks
from experiments.benchmarks.imagenet import known, standin
from experiments.errors import DataNotFoundError

FIRST = ['tench', 'goldfish', 'great white shark', 'tiger shark']


def class_names(data_dir, variant='tiny'):
  task = imagenet.get_config(variant).task
  return benchmarks.create(**task).class_names(data_dir and str(data_dir))


def test_the_names_are_of_the_sorted_wnids():
  assert list(known.known_names()) == known.known_wnids()


def test_all_names_differ_and_are_short():
  names = list(known.known_names().values())
  assert len({name.casefold() for name in names}) == 1000
  assert all(name == ' '.join(name.split()) != '' for name in names)
  assert max(map(len, names)) <= 30


@pytest.mark.parametrize(
  ('wnid', 'name'),
  [
    ('n02012849', 'crane (bird)'),
    ('n03126707', 'crane (machine)'),
    ('n02113186', 'Cardigan Welsh corgi'),
    ('n02963159', 'cardigan (garment)'),
    ('n15075141', 'toilet tissue'),  # The last one.
  ],
)
def test_words_of_two_meanings_are_told_apart(wnid, name):
  assert known.known_names()[wnid] == name


def test_imagenet_needs_no_data_to_name_its_classes():
  names = class_names(None, '')
  assert len(names) == 1000
  assert names[:4] == FIRST


@pytest.mark.parametrize('layout', ['folders', 'flat', 'tfds', 'parquet'])
def test_a_subset_names_what_is_found(mini_imagenet_dir, layout):
  names = class_names(mini_imagenet_dir / layout)
  assert names == [known.known_names()[wnid] for wnid in standin.wnids()]
  assert names[:4] == FIRST


def test_tar_shards_have_numbers_of_classes_only(mini_imagenet_dir):
  names = class_names(mini_imagenet_dir / 'tars')
  assert names == [str(i) for i in range(12)]


def test_an_unknown_wnid_is_its_own_name_and_kaggles_folders_are_found(
  mini_imagenet_dir, tmp_path
):
  top = tmp_path / 'ILSVRC' / 'Data' / 'CLS-LOC'
  shutil.copytree(mini_imagenet_dir / 'folders', top)
  (top / 'train' / standin.wnids()[1]).rename(top / 'train' / 'n01440999')
  assert class_names(tmp_path)[:3] == ['tench', 'n01440999', FIRST[2]]


def test_a_subset_has_no_names_without_its_data(mini_imagenet_dir, tmp_path):
  for data_dir in (None, '', tmp_path):
    with pytest.raises(DataNotFoundError, match='No ImageNet'):
      class_names(data_dir)
  shutil.copytree(mini_imagenet_dir / 'flat' / 'val', tmp_path / 'val')
  with pytest.raises(DataNotFoundError, match='/train, whose folders would be'):
    class_names(tmp_path)
