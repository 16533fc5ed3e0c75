"""A fault of the code is not counted as damage of the data."""

import io
import zipfile

import av
import h5py
import numpy as np
from PIL import Image, ImageOps
import plyfile
import pytest

from experiments import errors
from experiments.benchmarks.audioset import clips, csv_files, parts
from experiments.benchmarks.audioset import files as media_files
from experiments.benchmarks.images import decoding, pictures
from experiments.benchmarks.modelnet40 import archives, hdf5, ply
from experiments.benchmarks.modelnet40 import files as shape_files

PLY = b"""ply
format ascii 1.0
element vertex 1
property float x
property float y
property float z
end_header
0 0 0
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Files of each kind; none is damaged."""
  folder = tmp_path_factory.mktemp('files')
  Image.new('RGB', (8, 8)).save(folder / 'image.png')
  np.save(folder / 'cloud.npy', np.zeros((4, 3), np.float32))
  (folder / 'cloud.ply').write_bytes(PLY)
  with zipfile.ZipFile(folder / 'a.zip', 'w') as archive:
    archive.writestr('name', b'')
  with h5py.File(folder / 'a.h5', 'w') as file:
    file['data'] = np.zeros((1, 2048, 3), np.float32)
  (folder / 'a.wav').write_bytes(b'RIFF')
  return folder


def decode_clip(path):
  segment = csv_files.Segment('eval', 'a', 0.0, 10.0, (0,))
  parts.decode_clip(parts.Decoding(clips.Clip(segment, str(path)), 'part', 0))


def read_cloud(path):
  with path.open('rb') as file:
    shape_files._read_npy(file, path.name)


def read_ply(path):
  with path.open('rb') as file:
    ply.read(file)


def open_archive(path):
  with archives.open_archive(str(path)):
    pass


READERS = {
  'image': (
    lambda path: decoding.decode(path.read_bytes()),
    'image.png',
    (Image, 'open'),
  ),
  'turned image': (
    lambda path: pictures.decode(path.read_bytes()),
    'image.png',
    (ImageOps, 'exif_transpose'),
  ),
  'clip': (decode_clip, 'a.wav', (av, 'open')),
  'own clip': (
    lambda path: media_files.decode((0, str(path))),
    'a.wav',
    (av, 'open'),
  ),
  'cloud': (read_cloud, 'cloud.npy', (np.lib.format, 'read_magic')),
  'ply': (read_ply, 'cloud.ply', (plyfile.PlyData, 'read')),
  'archive': (
    open_archive,
    'a.zip',
    (zipfile, 'ZipFile'),
  ),
  'hdf5': (
    lambda path: hdf5.read(path.read_bytes(), 1),
    'a.h5',
    (h5py, 'File'),
  ),
}


@pytest.mark.parametrize('name', READERS)
def test_a_call_that_a_library_no_longer_takes(folder, monkeypatch, name):
  """A new release may not; no file can be the cause."""
  read, file, function = READERS[name]
  monkeypatch.setattr(*function, lambda: None)
  with pytest.raises(TypeError, match='lambda'):
    read(folder / file)


def test_what_a_library_stumbles_on_is_damage():
  """NumPy evaluates the header: a list cannot be a key of a dictionary."""
  header = b"{[]: 1, 'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}\n"
  npy = b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header
  with pytest.raises(errors.DamagedRecordError, match='unhashable'):
    shape_files._read_npy(io.BytesIO(npy), 'cloud')
