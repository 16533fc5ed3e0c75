"""Files on a local disk, and in a store of objects such as gs://.

A disk can rename a file. An object in a store is written whole, which replaces
it at once or not at all.

This module adds what epath lacks: files that are written whole or not at all,
errors that say in one line what to do, names with brackets, and, in stores,
lists of files (epath leaves out `gs://`) and folders that are moved into a new
one. tests/experiments/test_storage.py, test_disk.py and test_paths.py show it.
"""

from collections.abc import Iterator
import contextlib
import errno
import functools
import glob
import os
import pathlib
from typing import Any

from etils import epath
from etils.epath import gpath
import fsspec

# What to install, by scheme.
STORES = {'gs': "pip install -e '.[gcs]'", 's3': 'pip install s3fs'}
WILDCARDS = frozenset('[]*?#')
_ADVICE = {
  errno.ENOSPC: ' Free some space there, and run the same command again.',
  errno.EDQUOT: ' Free some of the quota, and run the same command again.',
  errno.EFBIG: ' Raise the limit on the size of files (ulimit -f).',
  errno.EROFS: ' Name a place that can be written.',
  errno.ENOENT: ' Make its folder first, or name another.',
  errno.EISDIR: ' Name a file: this is a folder.',
  errno.ENOTDIR: ' Name another: a part of this path is a file.',
  errno.EACCES: ' Name a place that you may write.',
  errno.EIO: ' The disk fails; what was saved before is still there.',
}
for _name in ('gs', 'gcs'):  # Imported when it is first asked for.
  fsspec.register_implementation(
    _name, 'experiments.google_storage.FileSystem', clobber=True
  )


def expand(path: str, name: str) -> str:
  """Replaces a leading `~` or `~user` by the folder that it stands for.

  Args:
    path: the path as it was given. A URL stays as it is.
    name: the flag, argument or key that gave it, for errors.

  Returns:
    The path, which is not empty.

  Raises:
    ValueError: if the path is empty, or there is no such user.
  """
  if not path:
    raise ValueError(
      f'{name} is empty: is a variable unset? Name a path; the current folder'
      ' is a dot.'
    )
  expanded = os.path.expanduser(path)
  if expanded.startswith('~'):
    raise ValueError(
      f'{name}={path}: there is no user {path.partition("/")[0]} here. If this'
      f' is the name of a file or a folder: ./{path}'
    )
  return expanded


class _Path(gpath.PosixGPath):
  """A path whose own `[`, `]`, `*` and `?` stand for themselves.

  In epath's `glob`, which Orbax and TFDS call too, they would be wildcards.
  """

  def glob(self, pattern: str) -> Iterator['_Path']:
    found = gpath.PosixGPath(glob.escape(os.fspath(self))).glob(pattern)
    return map(_Path, found)


def path(name: str | os.PathLike[str]) -> epath.Path:
  """Returns the path of a file or a folder on a disk or in a store.

  Args:
    name: a path, which may begin with `~`, or a URL.

  Raises:
    ValueError: if the name is empty.
    OSError: if the store cannot be used (a package is not installed, the bucket
      does not exist or may not be listed), or does not take the name.
  """
  name = os.path.expanduser(os.fspath(name))
  if not name:
    raise ValueError('A path is empty.')
  scheme, is_url, rest = name.partition('://')
  if is_url:
    if wild := WILDCARDS.intersection(rest):
      raise OSError(
        f'{name}: names in a store may not have {" ".join(sorted(wild))}, which'
        ' its tools take for wildcards.'
      )
    _open_store(scheme, rest.partition('/')[0])
  return _Path(name)


def local(name: str) -> str:
  """Returns a path that has to be on a disk, unchanged.

  Raises:
    OSError: if the path is in a store.
  """
  if '://' in name:
    raise OSError(
      f'{name} is in a store. Write to a disk, and copy that, as by: gcloud'
      f' storage cp --recursive FOLDER {name}'
    )
  return name


def is_local(path: epath.Path) -> bool:
  """Returns whether a path is on a disk, not in a store."""
  return '://' not in str(path)


def absolute(path: epath.Path) -> epath.Path:
  """Returns an absolute path; a URL stays as it is."""
  return path.absolute() if is_local(path) else path


@functools.cache
def _open_store(scheme: str, bucket: str) -> None:
  """Raises OSError if a bucket cannot be used."""
  place = f'{scheme}://{bucket}'
  if scheme not in STORES:
    raise OSError(
      f'{place}: only stores at {"://, ".join(STORES)}:// are read.'
    )
  try:
    system = fsspec.filesystem(scheme)
  except ImportError as error:
    raise OSError(
      f'{place} is read with a package that is not installed: {STORES[scheme]}'
    ) from error
  if scheme == 'gs':
    try:
      system.check(bucket)
    except FileNotFoundError as error:
      raise FileNotFoundError(f'There is no bucket {place}.') from error


@contextlib.contextmanager
def writing(
  path: str | os.PathLike[str], *others: type[Exception]
) -> Iterator[None]:
  """Makes errors of writing say in one line where, why and what to do.

  Args:
    path: the file or folder that is written.
    others: exceptions that the writer raises instead of an OSError.

  Raises:
    OSError: in place of each OSError and each of `others`.
  """
  errors: tuple[type[Exception], ...] = (OSError, *others)
  try:
    yield
  except errors as error:
    if isinstance(error, _WriteError):
      raise
    number = getattr(error, 'errno', None) or next(
      (x for x in _ADVICE if os.strerror(x) in str(error)), None
    )
    reason = os.strerror(number) if number else str(error)
    advice = _ADVICE.get(number or 0, '')
    message = f'{path} cannot be written: {reason}.{advice}'
    raise _WriteError(message) from error


class _WriteError(OSError):
  """An error that says where, why and what to do."""


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file whole or not at all, replacing one that exists.

  Raises:
    OSError: as `writing`.
  """
  if isinstance(content, str):
    content = content.encode()
  with writing(path):
    if is_local(path):
      temporary = path.with_name(f'{path.name}.tmp')
      temporary.write_bytes(content)
      temporary.replace(path)
    else:
      path.write_bytes(content)


def check(path: epath.Path) -> None:
  """Checks before long work that a file can be written.

  Raises:
    OSError: as `writing`, if it cannot.
  """
  with writing(path):
    if is_local(path) and path.exists() and not path.is_file():
      open(path, 'ab').close()  # A device such as /dev/stdout, or a folder.
      return
    if is_local(path):
      path = path.resolve()
    _probe(path.with_name(f'{path.name}.tmp'))


def check_folder(folder: epath.Path) -> None:
  """Checks that files can be written in a folder, which may not exist yet.

  Raises:
    OSError: as `writing`, if they cannot.
  """
  there = folder
  while is_local(folder) and not there.exists():
    there = there.parent
  with writing(folder):
    _probe(there / 'is_it_writable.tmp')


def _probe(path: epath.Path) -> None:
  path.write_bytes(b'')
  path.unlink()


def create(path: epath.Path, text: str) -> bool:
  """Writes a file unless it exists; returns whether it was written.

  Raises:
    OSError: as `writing`.
  """
  try:
    with writing(path):
      if is_local(path):
        with open(path, 'x') as file:
          file.write(text)
      else:
        system = _system(path)
        if system.exists(str(path)):  # Some stores ignore the mode.
          return False
        system.pipe_file(str(path), text.encode(), mode='create')
  except OSError as error:
    if isinstance(error.__cause__, FileExistsError):
      return False
    raise
  return True


def files(folder: epath.Path) -> list[epath.Path]:
  """Returns all files below a folder, sorted by name."""
  if is_local(folder):
    found = sorted(x for x in pathlib.Path(folder).rglob('*') if x.is_file())
    return list(map(_Path, found))
  system = _system(folder)
  return [_Path(system.unstrip_protocol(x)) for x in system.find(str(folder))]


def _system(path: epath.Path) -> Any:
  return fsspec.filesystem(str(path).partition('://')[0])


def move(folder: epath.Path, target: epath.Path) -> None:
  """Moves a folder, replacing one that exists; in a store file by file."""
  if target.exists():
    target.rmtree()
  if is_local(folder):
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return
  system = _system(folder)
  for path in files(folder):
    system.mv(str(path), str(target / path.relative_to(folder)))
