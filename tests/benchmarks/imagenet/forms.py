"""Writes the stand-in's images in the forms in which people have ImageNet."""

import io
import pathlib
import shutil

from experiments.benchmarks.imagenet import known, standin
from experiments.benchmarks.images import decoding
from experiments.errors import DamagedRecordError

WNIDS = standin.wnids()


def lines(path):
  return path.read_text().splitlines()


def labels(flat):
  """The wnid by name of the validation images of `flat/`."""
  rows = lines(flat / 'LOC_val_solution.csv')[1:]
  return {f'{x[:23]}.JPEG': x[24:33] for x in rows}


def as_today(mini, root):
  """Folders of JPEG files; val/ is flat, with Kaggle's file of labels."""
  shutil.copytree(mini / 'flat', root)


def as_png(mini, root):
  """The same pixels in PNG files, with suffixes in small and in capitals."""
  as_today(mini, root)
  for i, path in enumerate(sorted(root.rglob('*.JPEG'))):
    try:
      image = decoding.decode(path.read_bytes())
    except DamagedRecordError:  # It stays damaged.
      data = path.read_bytes()
    else:
      buffer = io.BytesIO()
      image.save(buffer, 'PNG')
      data = buffer.getvalue()
    path.unlink()
    path.with_suffix(('.png', '.PNG')[i % 2]).write_bytes(data)


def as_tiny_imagenet(mini, root):
  """Tiny ImageNet's folders, with a file of boxes in each."""
  for path in sorted((mini / 'flat' / 'train').rglob('*.JPEG')):
    wnid = path.parent.name
    target = root / 'train' / wnid / 'images' / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    with open(root / 'train' / wnid / f'{wnid}_boxes.txt', 'a') as file:
      file.write(f'{path.name}\t0\t0\t62\t63\n')
  shutil.copytree(mini / 'flat' / 'val', root / 'val' / 'images')
  (root / 'val' / 'val_annotations.txt').write_text(
    ''.join(
      f'{name}\t{wnid}\t0\t32\t44\t62\n'
      for name, wnid in labels(mini / 'flat').items()
    )
  )
  shutil.copytree(root / 'val' / 'images', root / 'test' / 'images')
  (root / 'wnids.txt').write_text('\n'.join(reversed(WNIDS)))
  (root / 'words.txt').write_text('n00001740\tentity\n')


def as_mmpretrain(mini, root):
  """Flat val/ with numbers of the sorted wnids in meta/val.txt."""
  as_today(mini, root)
  (root / 'LOC_val_solution.csv').unlink()
  (root / 'meta').mkdir()
  (root / 'meta' / 'val.txt').write_text(
    ''.join(
      f'{name} {WNIDS.index(wnid)}\n'
      for name, wnid in labels(mini / 'flat').items()
    )
  )
  (root / 'meta' / 'train.txt').write_text('n0/n0_0.JPEG 0\n')


def ids():
  """Other numbers of the 1,000 wnids than those of their order, from 1."""
  wnids = known.known_wnids()
  return {wnid: 1 + 7 * i % 1000 for i, wnid in enumerate(wnids)}


def ground_truth():
  """The content of the development kit's file, with these ids."""
  number = ids()
  wnids = known.known_validation_labels().values()
  return ''.join(f'{number[wnid]}\n' for wnid in wnids)


def as_devkit(mini, root):
  """Flat val/ beside the development kit.

  Each image gets the name of one of ImageNet's images of its class, in the
  same order: the kit knows only these.
  """
  as_today(mini, root)
  (root / 'LOC_val_solution.csv').unlink()
  free = iter(known.known_validation_labels().items())
  for name, wnid in labels(mini / 'flat').items():
    stem = next(stem for stem, x in free if x == wnid)
    (root / 'val' / name).rename(root / 'val' / f'_{stem}.JPEG')
  for path in (root / 'val').iterdir():
    path.rename(path.with_name(path.name[1:]))
  data = root / 'ILSVRC2012_devkit_t12' / 'data'
  data.mkdir(parents=True)
  (data / 'ILSVRC2012_validation_ground_truth.txt').write_text(ground_truth())


FORMS = {
  'png': as_png,
  'tiny_imagenet': as_tiny_imagenet,
  'mmpretrain': as_mmpretrain,
  'devkit': as_devkit,
}


def write(form, mini, root):
  """Returns the data.dir of the form's copy of the stand-in."""
  {'today': as_today, **FORMS}[form](pathlib.Path(mini), pathlib.Path(root))
  return str(root)
