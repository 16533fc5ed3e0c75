"""Prepares ImageNet once, from its two official tars into TFDS's files.

TFDS's own builder does it. Nothing else here needs TensorFlow, so the builder
gets an environment of its own, which can be deleted afterwards. `tfrecords`
converts what TFDS has prepared in another format.
"""

from collections.abc import Callable, Mapping
import importlib.metadata
import os
import shutil
import subprocess
import tarfile
import tempfile
import venv

from experiments import storage
from experiments.benchmarks import listing
from experiments.benchmarks.imagenet.known import NUM_CLASSES, NUM_VALIDATION
from experiments.benchmarks.imagenet.source import (
  open_source,
  prepared_folder,
  TFDS_NAME,
)
from experiments.errors import PreparationError

TRAIN_TAR, VALIDATION_TAR = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
NUM_EXAMPLES = {'train': 1_281_167, 'validation': NUM_VALIDATION}
# TFDS writes a split to temporary files first, and deletes each of them before
# its images go to their final file, so that the disk never has them twice: the
# peak was 0.996 of the tars, with tars of 1.8 GB. A tenth is margin.
DISK_FACTOR = 1.1
ENVIRONMENT_BYTES = 3 * 10**9  # TensorFlow and the rest: 1.8 GB, and a margin.
PACKAGES = (
  'tensorflow-cpu',
  'array_record',
  'importlib_resources',
  'pillow',
)
BUILD = """
import sys
import tensorflow_datasets as tfds

manual_dir, data_dir = sys.argv[1:]
try:
  builder = tfds.builder(
    'imagenet2012', data_dir=data_dir, file_format='array_record'
  )
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
  )
except Exception as error:
  is_tensorflows = type(error).__module__.startswith('tensorflow')
  if not (isinstance(error, OSError) or is_tensorflows):
    raise
  sys.exit(f'{data_dir} cannot be written: {error}')
"""


def prepare(
  manual_dir: str,
  data_dir: str,
  *,
  environment: str | None,
  report: Callable[[str], None],
  num_examples: dict[str, int] = NUM_EXAMPLES,
  train_tars: int = NUM_CLASSES,
) -> None:
  """Checks the tars, builds `<data_dir>/imagenet2012/` and counts the images.

  If the data set is prepared already, its images are only counted. TFDS writes
  to a folder with another name and renames it at the end, so an interrupted
  preparation leaves nothing that looks finished, and starts again from the
  beginning.

  Args:
    manual_dir: has the two tars.
    data_dir: TFDS's data_dir, to write to.
    environment: folder for the environment that has TensorFlow; kept, and used
      again if it exists. None: a temporary one.
    report: called with what happens, a line at a time.
    num_examples: images of each split.
    train_tars: classes in the train tar.

  Raises:
    PreparationError: if anything is missing, or a step failed.
    DataNotFoundError: if the prepared data set cannot be read.
    ValueError: if it does not have the images that it should have.
    OSError: if `data_dir` is not on a disk, or cannot be written.
  """
  folder = prepared_folder(storage.local(data_dir))
  if folder is not None:
    report(f'Already prepared: {folder}')
  else:
    check_tars(manual_dir, train_tars, num_examples['validation'])
    storage.check_folder(storage.path(data_dir).absolute())
    with tempfile.TemporaryDirectory() as temporary:
      environment = environment or os.path.join(temporary, 'environment')
      check_disk(manual_dir, data_dir, environment)
      report(f'Installing TensorFlow into {environment}')
      python = _install(environment)
      report(f'Preparing {data_dir}/{TFDS_NAME}; this takes hours')
      _run([python, '-c', BUILD, *map(os.path.abspath, (manual_dir, data_dir))])
  for split, count in num_examples.items():
    source = open_source(
      data_dir, split, num_examples=count, num_classes=NUM_CLASSES
    )
    report(f'{split}: {len(source)} images')


def check_tars(
  manual_dir: str, train_tars: int, validation_images: int
) -> None:
  """Raises PreparationError unless both tars have what they should have."""
  for name, suffix, count in (
    (TRAIN_TAR, '.tar', train_tars),
    (VALIDATION_TAR, '.JPEG', validation_images),
  ):
    path = os.path.join(manual_dir, name)
    if not os.path.isfile(path):
      what = 'a folder' if os.path.isdir(path) else 'missing'
      raise PreparationError(
        f'{path} is {what}: --manual_dir must have {TRAIN_TAR} and'
        f' {VALIDATION_TAR}, as downloaded from image-net.org after signing up.'
        f' {listing.at(manual_dir)} Unpacked, they need no preparation:'
        ' data.dir is then the folder that has train/ and val/.'
      )
    try:
      with tarfile.open(path, 'r:') as tar:
        members = tar.getnames()
    except tarfile.TarError as error:
      raise PreparationError(
        f'{path} is not a tar, or is incomplete: {error}. Download it again.'
      ) from error
    found = sum(member.endswith(suffix) for member in members)
    if found != count or len(members) != count:
      raise PreparationError(
        f'{path} should have {count} files *{suffix} and nothing else; it has'
        f' {found} of them among {len(members)}.'
      )


def check_disk(manual_dir: str, data_dir: str, environment: str) -> None:
  """Raises PreparationError unless there is room for all that is written."""
  tars = sum(
    os.path.getsize(os.path.join(manual_dir, name))
    for name in (TRAIN_TAR, VALIDATION_TAR)
  )
  check_room(
    {data_dir: DISK_FACTOR * tars, environment: ENVIRONMENT_BYTES}, data_dir
  )


def check_room(sizes: Mapping[str, float], data_dir: str) -> None:
  """Raises PreparationError unless paths have room for that many bytes."""
  needed: dict[int, float] = {}  # By file system, which they may share.
  for path, size in sizes.items():
    existing = os.path.abspath(path)
    while not os.path.exists(existing):
      existing = os.path.dirname(existing)
    device = os.stat(existing).st_dev
    needed[device] = needed.get(device, 0) + size
    free = shutil.disk_usage(existing).free
    if free < needed[device]:
      raise PreparationError(
        f'{path} has {free / 1e9:.1f} GB free, but'
        f' {needed[device] / 1e9:.1f} GB are needed. Interrupted preparations'
        f' may have left {data_dir}/{TFDS_NAME}/incomplete.*:'
        ' delete them.'
      )


def _install(environment: str) -> str:
  """Makes the environment; returns its interpreter."""
  python = os.path.join(environment, 'bin', 'python')
  if not os.path.exists(python):
    venv.create(environment, with_pip=True)
  # The TFDS that will read, so that both know the same versions of the data.
  version = importlib.metadata.version('tensorflow-datasets')
  packages = (*PACKAGES, f'tensorflow-datasets=={version}')
  _run([python, '-m', 'pip', 'install', '--quiet', *packages])
  return python


def _run(command: list[str]) -> None:
  status = subprocess.run(command).returncode
  if status:
    shown = ' '.join(command).replace(BUILD, '…')
    raise PreparationError(f'Status {status} from: {shown} (see above).')
