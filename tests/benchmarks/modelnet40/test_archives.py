"""Archives and folders that are refused, or read only in part."""

import gzip
import os
import tarfile

import pytest

from experiments.benchmarks.modelnet40 import archives
from experiments.benchmarks.modelnet40.archives import ArchiveError
from experiments.benchmarks.modelnet40.archives import entries as limits
from tests.benchmarks.modelnet40.archives import write_folder, write_tar


def read_all(path):
  with archives.open_archive(str(path)) as archive:
    return {entry.name: entry.read() for entry in archive.entries}


def header(name='a/box.off', size=0, **fields):
  """One header of a tar, whose fields may lie."""
  info = tarfile.TarInfo(name)
  info.size = size
  for key, value in fields.items():
    setattr(info, key, value)
  return info.tobuf(tarfile.GNU_FORMAT)


END = b'\0' * 1024
LONG = header('././@LongLink', 2**40, type=tarfile.GNUTYPE_LONGNAME)
PAX = header('pax', 2**40, type=tarfile.XHDTYPE)
NEGATIVE = header('pax', 11, type=tarfile.XHDTYPE)
NEGATIVE += b'11 size=-1\n'.ljust(512, b'\0')


@pytest.mark.parametrize(
  ('tar', 'message'),
  [
    (header('/etc/box.off') + END, "'/etc/box.off' has an absolute name"),
    (header('a/../../box.off') + END, 'leads out of the archive'),
    (header('..\\box.off') + END, 'leads out of the archive'),
    (header() + header() + END, "'a/box.off' is there twice"),
    (header(type=tarfile.SYMTYPE, linkname='/etc/passwd') + END, 'is a link'),
    (header(type=tarfile.LNKTYPE, linkname='a') + END, 'is a link'),
    (header(type=tarfile.FIFOTYPE) + END, 'is no plain file'),
    (header(type=tarfile.BLKTYPE) + END, 'is no plain file'),
    (header(size=10**15) + END, 'claims 1000000000000000 bytes'),
    (header(size=2000) + END, 'not a whole tar archive: unexpected end'),
    (LONG + END, 'more than 134217728 bytes of headers'),
    (PAX + END, 'more than 134217728 bytes of headers'),
    (NEGATIVE + header() + END, 'claims -1 bytes|invalid offset'),
    (
      header('././@LongLink', 5, type=b'L') * 3000 + END,
      'not a whole tar archive',
    ),
    (header()[:300], 'not a whole tar archive'),
    (header() + b'x' * 512 + header('b') + END, "damaged after 'a/box.off'"),
    (header() + header('b')[:200], "damaged after 'a/box.off'"),
  ],
)
@pytest.mark.parametrize('packed', [False, True])
def test_a_wrong_tar_is_one_clear_error(tar, message, packed, tmp_path):
  path = tmp_path / 'a.tar'
  path.write_bytes(gzip.compress(tar) if packed else tar)
  with pytest.raises(ArchiveError, match=message) as error:
    read_all(path)
  assert str(error.value).startswith(f'{path}: ')
  assert len(str(error.value).splitlines()) == 1


def test_a_packed_tar_may_not_unpack_to_very_much(tmp_path):
  path = tmp_path / 'a.tgz'
  with gzip.open(path, 'wb') as file:
    file.write(header(size=3 * 10**8))
    for _ in range(300):
      file.write(b'\0' * 10**6)
    file.write(END)
  assert path.stat().st_size < 10**6
  with pytest.raises(ArchiveError, match='claims 300000000 bytes'):
    read_all(path)
  # Packed twice: what is inside is no tar.
  path.write_bytes(gzip.compress(path.read_bytes()))
  with pytest.raises(ArchiveError, match='not a whole tar archive'):
    read_all(path)


def test_a_cut_tgz_is_refused_as_a_whole(tmp_path):
  source = write_tar(
    tmp_path / 'a.tgz', {f'{i}.off': os.urandom(1000) for i in range(9)}, 'w:gz'
  )
  whole = (tmp_path / 'a.tgz').read_bytes()
  assert len(read_all(source)) == 9
  (tmp_path / 'a.tgz').write_bytes(whole[:-500])
  with pytest.raises(ArchiveError, match='not a whole tar archive'):
    read_all(source)


def test_more_files_than_a_data_set_has_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'MAX_ENTRIES', 8)
  files = {f'{i}.off': b'' for i in range(9)}
  for source in (
    write_folder(tmp_path / 'folder', files),
    write_tar(tmp_path / 'a.tar', files),
  ):
    with pytest.raises(ArchiveError, match='more than 8 files; give the data'):
      read_all(source)


def test_links_in_a_folder_are_refused_and_hidden_ones_ignored(tmp_path):
  (tmp_path / 'secret').mkdir()
  (tmp_path / 'secret' / 'box.off').write_bytes(b'secret')
  folder = tmp_path / 'data'
  write_folder(folder, {'a/box.off': b'a', '.git/x': b'', '.x': b''})
  os.symlink(tmp_path / 'secret', folder / '.git' / 'link')
  os.symlink(tmp_path / 'secret', folder / '._link')
  assert read_all(folder) == {'a/box.off': b'a'}
  for name in ('a/cone.off', 'b'):
    target = tmp_path / 'secret' / ('box.off' if '.' in name else '')
    os.symlink(target, folder / name)
    with pytest.raises(ArchiveError, match=f"'{name}' is a link"):
      read_all(folder)
    os.unlink(folder / name)
  # The folder itself may be one.
  os.symlink(folder, tmp_path / 'data_link')
  assert read_all(tmp_path / 'data_link') == {'a/box.off': b'a'}


def test_what_is_no_file_in_a_folder_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'box.off')
  with pytest.raises(ArchiveError, match='not a regular file'):
    read_all(tmp_path)
  with pytest.raises(FileNotFoundError, match='There is no file or folder'):
    read_all(tmp_path / 'box.off')


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
  write_folder(tmp_path, {'a/b/box.off': b''})
  scandir = os.scandir

  def refuse(path):
    if os.fspath(path).endswith('b'):
      raise PermissionError(13, 'Permission denied', path)
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(PermissionError, match='a/b'):
    read_all(tmp_path)
