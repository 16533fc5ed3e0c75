"""Installs a compiler into an environment of its own, and runs it there.

With libtpu in the main environment, every `jax.devices()` would look for a TPU.
So each compiler is installed once into its own folder, and a process with this
folder on its path compiles.
"""

import importlib.metadata
import logging
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile

from packaging.requirements import Requirement

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
INSIDE = 'PERCEIVER_PLAN'  # Set in the process that compiles.
COMPILERS = ('libtpu', 'jax-cuda12-pjrt')
# Messages of compilers about a machine without accelerators.
_NOISE = re.compile(
  r'could not determine TPU|before (InitGoogle|absl::InitializeLog)\(\)'
  r'|Source Location Trace|libtpu_init_utils|cudart_stub'
)


def inside() -> Path | None:
  """Returns the compiler's folder in a process that compiles, else None."""
  return Path(os.environ[INSIDE]) if INSIDE in os.environ else None


def default_folder(platform: str) -> Path:
  version = importlib.metadata.version('jax')
  return ROOT / '.cache' / 'plan' / f'{platform}-{version}'


def requirements(platform: str) -> list[str]:
  """Returns the requirements for pip: the compiler of the installed JAX."""
  if platform == 'tpu':
    return [
      requirement.partition(';')[0].strip()
      for requirement in importlib.metadata.requires('jax') or ()
      if re.match(r'libtpu.*extra == .tpu.', requirement)
    ]
  version = importlib.metadata.version('jax')
  return [
    f'jax-cuda12-plugin=={version}',
    f'jax-cuda12-pjrt=={version}',
    'nvidia-cuda-nvcc-cu12',
  ]


def compiler(folder: Path | None) -> str:
  """Names the compiler: 'jax 0.12.0.1, libtpu 0.0.50.1', or JAX alone."""
  found = {'jax': importlib.metadata.version('jax')}
  if folder is not None:
    found |= _versions(folder)
  return ', '.join(f'{x} {found[x]}' for x in ('jax', *COMPILERS) if x in found)


def _versions(folder: Path) -> dict[str, str]:
  return {
    x.name: x.version
    for x in importlib.metadata.distributions(path=[str(folder)])
  }


def _check(platform: str, folder: Path) -> None:
  """Raises ValueError if a folder's compiler is not for the installed JAX.

  Another libtpu compiles, too, but not the programs that this JAX would run.
  """
  found = _versions(folder)
  for text in requirements(platform):
    requirement = Requirement(text)
    version = found.get(requirement.name)
    if version is None or version not in requirement.specifier:
      raise ValueError(
        f'{folder} has {requirement.name} {version or "not"}, but jax'
        f' {importlib.metadata.version("jax")} needs {text}:'
        ' give another --environment, or none.'
      )


def install(platform: str, folder: Path) -> None:
  """Installs the compiler into the folder, unless it exists, atomically.

  Raises:
    OSError: if pip fails.
    ValueError: if the folder's compiler is not for the installed JAX.
  """
  if folder.exists():
    _check(platform, folder)
    return
  log.info('Installing the %s compiler into %s, once.', platform, folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
    packages = Path(temporary) / 'packages'
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps']
    result = subprocess.run(
      [*pip, '--target', str(packages), *requirements(platform)],
      capture_output=True,
      text=True,
    )
    if result.returncode:
      lines = result.stderr.strip().splitlines() or ['it said nothing.']
      raise OSError(f'pip cannot install the compiler: {lines[-1]}')
    try:
      packages.replace(folder)
    except OSError:
      if not folder.exists():  # Otherwise another process was faster.
        raise


def variables(folder: Path) -> dict[str, str]:
  """Returns the environment variables of a process that compiles."""
  path = os.pathsep.join(filter(None, [str(folder), os.getenv('PYTHONPATH')]))
  return {
    **os.environ,
    INSIDE: str(folder),
    'PYTHONPATH': path,
    'JAX_PLATFORMS': 'cpu',
    'JAX_ENABLE_COMPILATION_CACHE': 'false',  # A cached one has no text.
    'JAX_DISABLE_MOST_OPTIMIZATIONS': 'false',  # Runs have them.
    'TPU_SKIP_MDS_QUERY': '1',  # Do not ask a cloud what machine this is.
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # It takes no device: no lock needed.
  }


def run(command: list[str], folder: Path) -> int:
  """Runs a process that compiles; returns its exit status."""
  process = subprocess.Popen(
    command, env=variables(folder), stderr=subprocess.PIPE, text=True
  )
  assert process.stderr is not None
  for line in process.stderr:
    if not _NOISE.search(line):
      sys.stderr.write(line)
  return process.wait()
