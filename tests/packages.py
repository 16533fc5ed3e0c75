"""Builds the library and installs it alone, as its users do."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

from tests.conftest import ROOT

LOCK = f'requirements-3.{min(sys.version_info[1], 12)}.lock'  # As in Makefile.
# Used if it exists: pip takes five times as long.
UV = shutil.which('uv', path=pathlib.Path(sys.executable).parent)


def run(python, *arguments, **options):
  """Returns a Python's standard output; AssertionError, with it, on failure."""
  result = subprocess.run(
    [python, *arguments], capture_output=True, text=True, **options
  )
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


def tracked_files():
  """Returns the paths of the project's files that git tracks."""
  result = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=True
  )
  return [pathlib.Path(os.fsdecode(x)) for x in result.stdout.split(b'\0') if x]


def build(folder):
  """Builds an sdist, and a wheel from it, into `dist` in the folder.

  The build is isolated, as people's are: uv or pip gets setuptools from the
  package index, like the wheel's requirements in `install`.
  """
  source = folder / 'source'
  for path in tracked_files():
    if (ROOT / path).exists():  # It may be deleted but not yet committed.
      (source / path).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(ROOT / path, source / path)
  run(
    *(sys.executable, '-m', 'build', '--outdir', folder / 'dist', source),
    f'--installer={"uv" if UV else "pip"}',
    cwd=folder,  # In the checkout, a folder `build` would hide the module.
  )


def install(wheel, folder):
  """Makes the folder an environment of the wheel and its requirements.

  They have the tested versions. Nothing else is there, not even pip.
  """
  run(sys.executable, '-m', 'venv', '--without-pip', folder)
  python = folder / 'bin' / 'python'
  if UV:
    installer = UV, 'pip', 'install', '--python', python
  else:
    installer = sys.executable, '-m', 'pip', '--python', python, 'install'
  run(
    *(*installer, '--quiet', wheel),
    # Python compiles what is imported, when it is.
    *('--constraint', ROOT / LOCK, '--no-compile'),
  )


@contextlib.contextmanager
def shared(tmp_path_factory, name, fill):
  """A folder that all processes of a test run share.

  The first process calls fill(folder). The last one removes the folder: an
  environment takes half a gigabyte, and pytest keeps the folders of three runs.
  """
  root = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    root = root.parent
  folder, users = root / name, root / f'{name}.users'

  @contextlib.contextmanager
  def counted(change):
    with users.open('a+') as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      file.seek(0)
      count = int(file.read() or 0) + change
      yield count
      file.truncate(0)
      file.write(str(count))

  with counted(1) as count:
    if count == 1:
      shutil.rmtree(folder, ignore_errors=True)  # An earlier fill failed.
      folder.mkdir()
      fill(folder)
  yield folder
  with counted(-1) as count:
    if count == 0:
      shutil.rmtree(folder)
