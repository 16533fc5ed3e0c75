"""The library as people get it: built, and alone in an environment."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

from tests.conftest import ROOT

LOCK = f'requirements-3.{min(sys.version_info[1], 12)}.lock'  # As in Makefile.
# Where there is one: pip takes five times as long.
UV = shutil.which('uv', path=pathlib.Path(sys.executable).parent)


def run(python, *arguments, **options):
  """Standard output of a Python; AssertionError with all of it if it fails."""
  result = subprocess.run(
    [python, *arguments], capture_output=True, text=True, **options
  )
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


def tracked_files():
  """Paths of what belongs to the project, whatever else lies about."""
  result = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=True
  )
  return [pathlib.Path(os.fsdecode(x)) for x in result.stdout.split(b'\0') if x]


def build(folder):
  """Builds sdist, and a wheel from it, into the folder `dist` there.

  In isolation, as people do: uv or pip gets setuptools, as it gets what the
  wheel needs below.
  """
  source = folder / 'source'
  for path in tracked_files():
    if (ROOT / path).exists():  # Else it is about to be removed.
      (source / path).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(ROOT / path, source / path)
  run(
    *(sys.executable, '-m', 'build', '--outdir', folder / 'dist', source),
    f'--installer={"uv" if UV else "pip"}',
    cwd=folder,  # In the checkout a folder `build` would be taken for it.
  )


def install(wheel, folder):
  """Makes the folder an environment of the wheel and what it requires.

  Of that, the versions that were tested; nothing else is there, pip neither.
  """
  run(sys.executable, '-m', 'venv', '--without-pip', folder)
  python = folder / 'bin' / 'python'
  if UV:
    installer = UV, 'pip', 'install', '--python', python
  else:
    installer = sys.executable, '-m', 'pip', '--python', python, 'install'
  run(
    *(*installer, '--quiet', wheel),
    # What is imported is compiled then.
    *('--constraint', ROOT / LOCK, '--no-compile'),
  )


@contextlib.contextmanager
def shared(tmp_path_factory, name, fill):
  """A folder for the processes of a test run; the first calls fill(folder).

  The last one removes it: an environment takes half a gigabyte, and pytest
  keeps the folders of three runs.
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
      shutil.rmtree(folder, ignore_errors=True)  # Of one that failed.
      folder.mkdir()
      fill(folder)
  yield folder
  with counted(-1) as count:
    if count == 0:
      shutil.rmtree(folder)
