"""The stand-in for ImageNet, and the preparation of the real one."""

import io
import os
import pathlib
import shutil
import sys
import tarfile
import types

from PIL import Image
import pytest

from experiments.benchmarks.imagenet import preparation, standin

COUNTS = {'train': 24, 'validation': 12}
WNIDS = standin.wnids()


def test_the_odd_files_are_there():
  images = list(standin.records('train', 24, seed=3))
  opened = [Image.open(io.BytesIO(r['jpeg'])) for r in images]
  kinds = {(x.format, x.mode) for x in opened}
  assert kinds == {('JPEG', m) for m in ('RGB', 'L', 'CMYK')} | {('PNG', 'RGB')}
  assert {x.size for x in opened} > set(standin.ODD_SIZES.values())
  assert any(x.info.get('progressive') for x in opened)
  assert any('adobe' in x.info and x.mode == 'CMYK' for x in opened)
  *whole, last = opened
  for image in whole:
    image.load()
  with pytest.raises(OSError, match='truncated'):
    last.load()


def test_the_seed_decides_everything():
  first, again, other = (
    list(standin.records('train', 24, seed)) for seed in (3, 3, 4)
  )
  assert first == again
  assert [r['label'] for r in first] != [r['label'] for r in other]
  assert not {r['jpeg'] for r in first} & {r['jpeg'] for r in other}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('mini', 24, 12), 'mini exists already'),
    (('new', 11, 12), '11 images for train; give >= 12'),
    (('new', 24, 0), '0 images for validation; give >= 1'),
  ],
)
def test_what_cannot_be_generated(mini_imagenet_dir, arguments, message):
  name, *counts = arguments
  with pytest.raises(ValueError, match=message):
    standin.generate(str(mini_imagenet_dir.parent / name), *counts, seed=0)
  assert os.listdir(mini_imagenet_dir.parent) == ['mini']


def write_tar(path, files):
  with tarfile.open(path, 'w') as tar:
    for name, data in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))


TRAIN = {f'{wnid}.tar': b'0' * 2000 for wnid in WNIDS}
VALIDATION = {f'ILSVRC2012_val_{i:08d}.JPEG': b'0' * 2000 for i in range(12)}


@pytest.fixture
def tars(tmp_path):
  """A folder with both tars."""
  write_tar(tmp_path / preparation.TRAIN_TAR, TRAIN)
  write_tar(tmp_path / preparation.VALIDATION_TAR, VALIDATION)
  return tmp_path


def prepare(root):
  """Returns the lines that are reported."""
  lines = []
  preparation.prepare(
    str(root),
    str(root / 'data'),
    environment=None,
    report=lines.append,
    num_examples=COUNTS,
    train_tars=12,
  )
  return lines


def unpack(path):
  path.unlink()
  path.mkdir()


def cut(path):
  os.truncate(path, path.stat().st_size * 2 // 3)


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    (preparation.TRAIN_TAR, pathlib.Path.unlink, 'is missing'),
    (
      preparation.VALIDATION_TAR,
      pathlib.Path.unlink,
      rf'is missing: .* has {preparation.TRAIN_TAR}\. Unpacked, they need no',
    ),
    (
      preparation.VALIDATION_TAR,
      unpack,
      rf'is a folder: .* has .*{preparation.VALIDATION_TAR}/\. Unpacked, they',
    ),
    (
      preparation.TRAIN_TAR,
      lambda path: path.write_bytes(b'<html>' * 500),
      'is not a tar',
    ),
    (preparation.VALIDATION_TAR, cut, 'or is incomplete'),
    (
      preparation.TRAIN_TAR,
      lambda path: write_tar(path, dict(list(TRAIN.items())[1:])),
      r'should have 12 files \*\.tar .* has 11 of them among 11',
    ),
    (
      preparation.VALIDATION_TAR,
      lambda path: write_tar(path, VALIDATION | {'list.txt': b''}),
      r'should have 12 files \*\.JPEG .* has 12 of them among 13',
    ),
  ],
)
def test_preparation_checks_the_tars(tars, name, change, message):
  change(tars / name)
  with pytest.raises(preparation.PreparationError, match=f'{name} .*{message}'):
    prepare(tars)
  assert not (tars / 'data').exists()


def test_preparation_needs_room(tars, monkeypatch):
  size = sum(path.stat().st_size for path in tars.iterdir())
  arguments = [str(tars / x) for x in ('', 'data', 'environment')]

  def set_free(free):
    usage = types.SimpleNamespace(free=free)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)

  # The environment is on the same file system here, so its room adds up.
  set_free(preparation.ENVIRONMENT_BYTES + 2 * size)
  preparation.check_disk(*arguments)
  set_free(preparation.ENVIRONMENT_BYTES + size)
  with pytest.raises(
    preparation.PreparationError, match=r'GB free, but .* are needed'
  ):
    preparation.check_disk(*arguments)


def test_a_failed_preparation_says_so(tars, monkeypatch):
  monkeypatch.setattr(preparation, 'ENVIRONMENT_BYTES', 0)
  monkeypatch.setattr(preparation, '_install', lambda _: sys.executable)
  monkeypatch.setattr(preparation, 'BUILD', 'raise SystemExit(3)')
  with pytest.raises(preparation.PreparationError, match='Status 3 from'):
    prepare(tars)


def test_what_is_prepared_is_counted_and_left_alone(
  mini_imagenet_dir, tmp_path, monkeypatch
):
  shutil.copytree(mini_imagenet_dir / 'tfds', tmp_path / 'data')
  monkeypatch.setattr(preparation, 'NUM_CLASSES', 12)
  lines = prepare(tmp_path)  # There are no tars.
  folder = tmp_path / 'data' / 'imagenet2012' / '5.1.0'
  assert lines == [
    f'Already prepared: {folder}',
    'train: 24 images',
    'validation: 12 images',
  ]
