"""Strict settings for all tests, which see the CPU as eight devices."""

import functools
import os
import pathlib
import shutil
import signal
import sys

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(
  path.stem
  for path in (ROOT / 'configs').glob('[a-z]*.py')
  if path.stem != 'base'
)
# Environment variables reach the processes that tests start, too. Programs are
# cached because compiling takes longer than the tests' steps.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(ROOT / '.cache' / 'jax')
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = (
  '1'  # They cost more than they save.
)
os.environ['HF_HUB_OFFLINE'] = '1'  # What looks like a name asks no real hub.
# Containers set it; then each process of the tests would compile JAX's sources.
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
sys.dont_write_bytecode = False

# A shell's background jobs ignore SIGINT, and so would the processes of tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402
import pytest  # noqa: E402

# The longest files begin first and the last ones are short, so that no worker
# is alone with a long one at the end.
LONGEST = (
  'tests/docs/test_pages_on_runs.py',
  'tests/docs/test_pages_on_data.py',
  'tests/torture/test_torture.py',
  'tests/scripts/test_plan.py',
  'tests/experiments/test_runs.py',
  'tests/perceiver/test_compiled_kernels.py',
  'tests/experiments/test_several_processes.py',
  'tests/docs/test_notebook.py',
)

# The older of XLA's two code generators for CPUs compiles in half the time;
# later versions have only the newer one.
if jax.__version_info__ < (0, 11):
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_use_fusion_emitters=false'

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_modifyitems(items):
  """Orders the files and keeps the order of tests in each."""
  rank = {name: i for i, name in enumerate(LONGEST)}
  items.sort(key=lambda item: rank.get(item.location[0], len(LONGEST)))


@pytest.fixture(scope='session')
def mini_imagenet_dir(tmp_path_factory):
  """The stand-in for ImageNet with 24 + 12 images; tests change only copies."""
  from experiments.benchmarks.imagenet import standin

  data_dir = tmp_path_factory.mktemp('imagenet') / 'mini'
  standin.generate(str(data_dir), 24, 12, seed=3)
  return data_dir


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
  """A smoke run of 20 steps on one device, which tests must not change."""
  from experiments import train
  from tests.experiments.smoke import create

  workdir = tmp_path_factory.mktemp('trained')
  run = create()
  metrics = train.train(run, str(workdir))['test']
  return run, workdir, metrics


@pytest.fixture(scope='session')
def workdir(trained):
  """The directory of the run `trained`, which tests must not change."""
  return trained[1]


@pytest.fixture
def copy(workdir, tmp_path):
  """A copy of `workdir`, which a test may change."""
  return shutil.copytree(workdir, tmp_path / 'copy')


@pytest.fixture(scope='session')
def store():
  """A store behind gs://runs, for this process and its children."""
  from tests.torture import emulator

  with emulator.running() as running, pytest.MonkeyPatch.context() as patch:
    for name, value in running.environment.items():
      patch.setenv(name, value)
    yield running


@pytest.fixture(scope='session')
def compilers():
  """Folders of the compilers for other hardware, kept from run to run."""
  from scripts.plan import environment

  folders = {x: environment.default_folder(x) for x in ('tpu', 'gpu')}
  for platform, folder in folders.items():
    environment.install(platform, folder)
  return folders


@pytest.fixture(scope='session')
def distributions(tmp_path_factory):
  """A folder with the library's sdist and wheel."""
  from tests import packages

  with packages.shared(tmp_path_factory, 'package', packages.build) as folder:
    yield folder / 'dist'


@pytest.fixture(scope='session')
def library_python(tmp_path_factory, distributions):
  """The Python of an environment with only the library's wheel."""
  from tests import packages

  (wheel,) = distributions.glob('*.whl')
  install = functools.partial(packages.install, wheel)
  with packages.shared(tmp_path_factory, 'library', install) as folder:
    yield folder / 'bin' / 'python'
