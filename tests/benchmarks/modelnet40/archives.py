"""Archives like those of ModelNet40, of few shapes or damaged ones."""

import io
import itertools
import zipfile

import h5py
import numpy as np

from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.benchmarks.modelnet40 import standin

KINDS = ('box', 'cone', 'torus')
SIZES = {'train': 12, 'test': 6}
TINY = modelnet40.Dataset('off', 'tiny.zip', KINDS, SIZES)
TINY_HDF5 = modelnet40.Dataset('hdf5', 'tiny_hdf5.zip', KINDS, SIZES)


def write_zip(path, files):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return str(path)


def meshes(sizes=SIZES, seed=0):
  """Files of an archive like ModelNet40.zip, with those that macOS adds."""
  rng = np.random.default_rng(seed)
  files = {'ModelNet40/': b'', 'ModelNet40/.DS_Store': b'\0' * 10}
  for kind, (split, size) in itertools.product(KINDS, sizes.items()):
    for i in range(size // len(KINDS)):
      name = f'{kind}/{split}/{kind}_{i:04}.off'
      files[f'ModelNet40/{name}'] = standin.mesh(kind, rng)
      files[f'__MACOSX/ModelNet40/{kind}/{split}/._{i}.off'] = b'\0\5\26\7'
  return files


def hdf5(clouds, labels):
  buffer = io.BytesIO()
  with h5py.File(buffer, 'w') as file:
    file.create_dataset('data', data=clouds, compression='gzip')
    file['label'] = np.array(labels, np.uint8)[:, None]
  return buffer.getvalue()


def small_hdf5():
  clouds = np.random.default_rng(0).normal(size=(2, 2048, 3)).astype('f')
  return hdf5(clouds, [0, 1])


def hdf5_files(train=None, test=None):
  whole = small_hdf5()
  return {
    'm/ply_data_train0.h5': whole if train is None else train,
    'm/ply_data_test0.h5': whole if test is None else test,
    'm/shape_names.txt': '\n'.join(KINDS),
  }
