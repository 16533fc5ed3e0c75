"""Files on a local disk, and in a store of objects such as gs://.

A disk can rename a file. An object in a store is written whole, which replaces
it at once or not at all.
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
    path: what was given. A URL stays as it is.
    name: of the flag, argument or key that gave it, for errors.

  Returns:
    The path, which is not empty.

  Raises:
    ValueError: if it is empty, or there is no such user.
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
  """A file or a folder: a path, also from `~` on, or a URL in a store.

  Raises:
    ValueError: if it is empty.
    OSError: if a store cannot be used: a package is not installed, there is no
      such bucket, or no right to list it; or for a name that it does not take.
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
  """The path of what only a disk can hold, while it is made.

  Raises:
    OSError: if it is in a store.
  """
  if '://' in name:
    raise OSError(
      f'{name} is in a store. Write to a disk, and copy that, as by: gcloud'
      f' storage cp --recursive FOLDER {name}'
    )
  return name


def is_local(path: epath.Path) -> bool:
  """Whether it is on a disk, and not in a store."""
  return '://' not in str(path)


def absolute(path: epath.Path) -> epath.Path:
  """The same from whatever directory."""
  return path.absolute() if is_local(path) else path


@functools.cache
def _open_store(scheme: str, bucket: str) -> None:
  """Raises OSError if it cannot be used."""
  place = f'{scheme}://{bucket}'
  if scheme not in STORES:
    raise OSError(
      f'{place}: of stores, only {"://, ".join(STORES)}:// is read.'
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
  """Errors of writing inside say where it was, and what may be done.

  Args:
    path: of what is written.
    others: what else the writer raises for want of an OSError.

  Raises:
    OSError: instead of another, or of those.
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
  """Says all there is to say."""


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file whole or not at all, over one that is there.

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
    OSError: as `writing`, if it could not.
  """
  with writing(path):
    if is_local(path) and path.exists() and not path.is_file():
      open(path, 'ab').close()  # A device, as /dev/stdout; or a folder.
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
  """Writes a file, if there is none; returns whether it did.

  Raises:
    OSError: as `writing`.
  """
  try:
    with writing(path):
      if is_local(path):
        with open(path, 'x') as file:
          file.write(text)
      else:
        _, system = _system(path)
        if system.exists(str(path)):  # Not every store knows the condition.
          return False
        system.pipe_file(str(path), text.encode(), mode='create')
  except OSError as error:
    if isinstance(error.__cause__, FileExistsError):
      return False
    raise
  return True


def files(folder: epath.Path) -> list[epath.Path]:
  """All files below a folder, in the order of their names."""
  if is_local(folder):
    found = sorted(x for x in pathlib.Path(folder).rglob('*') if x.is_file())
    return list(map(_Path, found))
  scheme, system = _system(folder)
  return [_Path(f'{scheme}://{x}') for x in system.find(str(folder))]


def _system(path: epath.Path) -> tuple[str, Any]:
  scheme = str(path).partition('://')[0]
  return scheme, fsspec.filesystem(scheme)


def move(folder: epath.Path, target: epath.Path) -> None:
  """Moves a folder, over one that is there; not at once in a store."""
  if target.exists():
    target.rmtree()
  if is_local(folder):
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return
  _, system = _system(folder)
  for path in files(folder):
    system.mv(str(path), str(target / path.relative_to(folder)))
