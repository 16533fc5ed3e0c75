"""Archives like those of ModelNet40, of few shapes or damaged ones."""

import functools
import io
import itertools
import pathlib
import tarfile
import zipfile

import h5py
import numpy as np

from experiments.benchmarks.modelnet40 import (
  meshes,
  off,
  preparation,
  standin,
)
from experiments.benchmarks.modelnet40 import source as modelnet40

KINDS = ('box', 'cone', 'torus')
SIZES = {'train': 12, 'test': 6}
TINY = modelnet40.Dataset('off', 'tiny.zip', KINDS, SIZES)
TINY_TEXT = modelnet40.Dataset('txt', 'tiny_text.zip', KINDS, SIZES, 'tiny')
MANY = {'train': 240, 'test': 60}  # Enough for three skips to be 1 %.
TINY_HDF5 = modelnet40.Dataset('hdf5', 'tiny_hdf5.zip', KINDS, SIZES)


def write_zip(path, files):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return str(path)


def write_tar(path, files, mode='w', **options):
  """Packs files in no order of names, as they lie on a disk."""
  with tarfile.open(path, mode, **options) as archive:
    for name, content in reversed(files.items()):
      entry = tarfile.TarInfo(name.rstrip('/'))
      if name.endswith('/'):
        entry.type = tarfile.DIRTYPE
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  return str(path)


def write_folder(path, files):
  for name, content in files.items():
    file = path / name
    if name.endswith('/'):
      file.mkdir(parents=True, exist_ok=True)
    else:
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(content)
  return str(path)


SOURCES = {
  'zip': write_zip,
  'folder': write_folder,
  'tar': write_tar,
  'old tar': functools.partial(write_tar, format=tarfile.USTAR_FORMAT),
  'tgz': functools.partial(write_tar, mode='w:gz'),
}


def mesh_files(sizes=SIZES, seed=0):
  """Files of an archive like ModelNet40.zip, with those that macOS adds."""
  rng = np.random.default_rng(seed)
  files = {'ModelNet40/': b'', 'ModelNet40/.DS_Store': b'\0' * 10}
  for kind, (split, size) in itertools.product(KINDS, sizes.items()):
    for i in range(size // len(KINDS)):
      name = f'{kind}/{split}/{kind}_{i:04}.off'
      files[f'ModelNet40/{name}'] = standin.mesh(kind, rng)
      files[f'__MACOSX/ModelNet40/{kind}/{split}/._{i}.off'] = b'\0\5\26\7'
  return files


def hdf5_content(clouds, labels, dtype=np.uint8):
  buffer = io.BytesIO()
  with h5py.File(buffer, 'w') as file:
    file.create_dataset('data', data=clouds, compression='gzip')
    file['label'] = np.array(labels, dtype)[:, None]
  return buffer.getvalue()


def text_files(num_points=2500):
  """Files of an archive like modelnet40_normal_resampled.zip."""
  rng = np.random.default_rng(0)
  top = 'modelnet40_normal_resampled'
  files = {f'{top}/tiny_shape_names.txt': '\n'.join(KINDS).encode()}
  number = 0
  for split, size in SIZES.items():
    names = []
    for i in range(size):
      number += 1
      kind = KINDS[i % len(KINDS)]
      names.append(f'{kind}_{number:04}')
      mesh = off.parse(standin.mesh(kind, rng))
      points = meshes.sample_surface(*mesh, num_points, rng)
      files[f'{top}/{kind}/{names[-1]}.txt'] = text_content(points, rng)
    files[f'{top}/tiny_{split}.txt'] = ('\n'.join(names) + '\n').encode()
  return files


def text_content(points, rng):
  """A file of points with normals, which nothing reads."""
  rows = np.concatenate([points, rng.normal(size=points.shape)], axis=1)
  return '\n'.join(','.join(f'{x:.6f}' for x in row) for row in rows).encode()


def small_hdf5():
  clouds = np.random.default_rng(0).normal(size=(2, 2048, 3)).astype('f')
  return hdf5_content(clouds, [0, 1])


def hdf5_files(train=None, test=None):
  whole = small_hdf5()
  return {
    'm/ply_data_train0.h5': whole if train is None else train,
    'm/ply_data_test0.h5': whole if test is None else test,
    'm/shape_names.txt': '\n'.join(KINDS).encode(),
  }


def published_hdf5_files(dtype=np.uint8, precision=np.float32):
  """Files as published, also those that nothing reads."""
  top = 'modelnet40_ply_hdf5_2048'
  rng = np.random.default_rng(0)
  files = {f'{top}/shape_names.txt': '\n'.join(KINDS).encode()}
  for split, size in SIZES.items():
    parts = [f'ply_data_{split}{i}' for i in range(2)]
    listed = [f'data/{top}/{part}.h5' for part in parts]
    files[f'{top}/{split}_files.txt'] = '\n'.join(listed).encode()
    for i, part in enumerate(parts):
      clouds = rng.normal(size=(size // 2, 2048, 3)).astype(np.float32)
      labels = np.arange(size // 2) % len(KINDS)
      content = hdf5_content(clouds.astype(precision), labels, dtype)
      files[f'{top}/{part}.h5'] = content
      files[f'{top}/ply_data_{split}_{i}_id2file.json'] = b'[]'
  return files


def prepare(name, source, data_dir):
  return preparation.prepare(name, str(source), str(data_dir))


def prepared(name, source, data_dir):
  """Returns the records in order, and the content of the other files."""
  prepare(name, source, data_dir)
  folder = pathlib.Path(modelnet40.directory(name, str(data_dir)))
  written = {path.name: path.read_bytes() for path in folder.iterdir()}
  # array_record compresses in parallel, so its files' bytes are never the same.
  written = {k: x for k, x in written.items() if 'array_record' not in k}
  for split in SIZES:
    records = list(modelnet40.open_source(name, split, str(data_dir)))
    written[split] = [
      (record['name'], record['label'], record['points'].tobytes())
      for record in records
    ]
  return written
