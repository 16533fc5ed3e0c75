"""Converts ImageNet as TFDS wrote it, as TFRecord files, into array_record.

TFRecord has no random access. The records stay as they are, in the same order
and number of files, so the result is a data set of TFDS like its own with
file_format='array_record'. TensorFlow is not needed.
"""

from collections.abc import Callable, Iterator
import json
import os
import re
import secrets
import shutil
from typing import BinaryIO, NamedTuple

from array_record.python import array_record_module
import google_crc32c
from tqdm import tqdm

from experiments import storage
from experiments.benchmarks import listing
from experiments.benchmarks.imagenet import preparation, source
from experiments.benchmarks.imagenet.checks import COUNT_KEYS
from experiments.benchmarks.images import files
from experiments.errors import DamagedRecordError, PreparationError

INFO = 'dataset_info.json'
FORMAT = 'array_record'


class File(NamedTuple):
  """A file of records, before and after."""

  path: str
  name: str  # Of the array_record file.
  num_records: int


def convert(
  tfrecords: str, data_dir: str, report: Callable[[str], None]
) -> None:
  """Writes `<data_dir>/imagenet2012/<version>/`, unless it exists.

  The folder gets its name when it is complete. If interrupted, the same call
  goes on after the last complete file.

  Args:
    tfrecords: the folder of a version that TFDS prepared, or its data_dir.
    data_dir: TFDS's data_dir, to write to.
    report: called with what happens, a line at a time.

  Raises:
    PreparationError: if files are missing or damaged; names them.
    DataNotFoundError: if a file is missing.
    ValueError: if it is another data set.
    OSError: if `data_dir` is not on a disk, or cannot be written.
  """
  existing = source.prepared_folder(storage.local(data_dir))
  folder = _prepared_folder(tfrecords)
  if existing is None:
    _convert(folder, data_dir, report)
  elif os.path.samefile(existing, folder):
    raise PreparationError(
      f'{existing} has the TFRecord files themselves: give another folder for'
      ' the converted ones, in --data_dir.'
    )
  else:
    report(f'Already prepared: {existing}')
  report(f'Flags for these images: {source.count_flags(data_dir)}')


def _prepared_folder(tfrecords: str) -> str:
  if not storage.is_local(storage.path(tfrecords)):
    raise PreparationError(f'{tfrecords} is in a store: copy it to a disk.')
  folder = source.prepared_folder(tfrecords)
  if folder is None:
    raise PreparationError(
      f'No {INFO} in {tfrecords}, nor in a folder {source.TFDS_NAME}/<version>/'
      ' in it. --tfrecords is the folder that TFDS wrote, with all its files.'
      f' {listing.at(tfrecords)}'
    )
  return folder


def _convert(folder: str, data_dir: str, report: Callable[[str], None]) -> None:
  version, found = _files(folder)
  info = _converted_info(folder)
  parent = os.path.join(os.path.abspath(data_dir), source.TFDS_NAME)
  storage.check_folder(storage.path(parent))
  written = os.path.join(parent, f'incomplete.tfrecords_{version}')
  done = _done(written, info)
  left = [file for file in found if file.name not in done]
  sizes = [os.path.getsize(file.path) for file in left]
  preparation.check_room({data_dir: sum(sizes)}, data_dir)
  if not done:
    _begin(folder, written, info)
  report(
    f'Converting {len(left)} of {len(found)} files, {sum(sizes) / 1e9:.1f} GB'
  )
  damaged: dict[str, PreparationError] = {}
  with tqdm(total=sum(sizes), unit='B', unit_scale=True) as progress:
    for file, size in zip(left, sizes, strict=True):
      try:
        _convert_file(file, os.path.join(written, file.name))
      except PreparationError as error:
        damaged[os.path.basename(file.path)] = error
      progress.update(size)
  if damaged:
    raise PreparationError(
      f'{len(damaged)} of the files in {folder} cannot be used:'
      f' {listing.shown(list(damaged))}. {next(iter(damaged.values()))} Get'
      ' them again; then the same command goes on.'
    )
  with storage.writing(parent):
    os.rename(written, os.path.join(parent, version))


def _files(folder: str) -> tuple[str, list[File]]:
  """Returns the version of a data set, and the files that it must have.

  Raises:
    DataNotFoundError: if one is missing.
    ValueError: if it is none that can be converted.
  """
  info = source.tfds_builder(folder).info
  version = str(info.version)
  file_format = getattr(info.file_format, 'value', 'nothing')
  if file_format != 'tfrecord':
    raise PreparationError(
      f'{folder} was prepared as {file_format}, not as TFRecord files. If it is'
      f' {FORMAT}, it is a data.dir already.'
    )
  if lacking := sorted(set(COUNT_KEYS) - set(info.splits)):
    raise PreparationError(
      f'{folder} has no split {lacking[0]!r}; it has: {", ".join(info.splits)}.'
    )
  found: list[File] = []
  for split in info.splits.values():
    before = split.filename_template
    after = before.replace(filetype_suffix=FORMAT)
    found += map(
      File,
      map(str, before.sharded_filepaths(split.num_shards)),
      after.sharded_filenames(split.num_shards),
      split.shard_lengths,
    )
  names = [version, *(os.path.relpath(x.path, folder) for x in found)]
  names += [x.name for x in found]
  if strange := [x for x in names if not re.fullmatch(r'\w[\w.-]*', x)]:
    raise PreparationError(
      f'{folder}/{INFO} names a file {strange[0]!r}, which is none of TFDS.'
    )
  listing.check_whole(folder, [x.path for x in found])
  return version, found


def _converted_info(folder: str) -> str:
  """Returns the content of INFO for the converted files."""
  with open(os.path.join(folder, INFO), encoding='utf-8') as file:
    info = json.load(file)
  info.pop('alternativeFileFormats', None)
  return json.dumps({**info, 'fileFormat': FORMAT}, indent=2)


def _done(written: str, info: str) -> set[str]:
  """Returns what an interrupted conversion of the same data set has left."""
  try:
    with open(os.path.join(written, INFO), encoding='utf-8') as file:
      is_same = file.read() == info
  except FileNotFoundError:
    return set()
  for name in os.listdir(written):
    if name.endswith('.tmp'):  # A kill has left it.
      os.remove(os.path.join(written, name))
  return set(os.listdir(written)) if is_same else set()


def _begin(folder: str, written: str, info: str) -> None:
  """Makes the folder to write to, with all but the records."""
  with storage.writing(written):
    shutil.rmtree(written, ignore_errors=True)
    os.makedirs(written)
    for entry in sorted(os.listdir(folder)):
      path = os.path.join(folder, entry)
      is_text = entry.endswith(('.json', '.txt')) and os.path.isfile(path)
      if is_text and entry != INFO:
        shutil.copyfile(path, os.path.join(written, entry))
    storage.write(storage.path(written) / INFO, info)  # The last one.


def _convert_file(file: File, target: str) -> None:
  """Raises PreparationError unless all records are there and intact."""
  temporary = f'{target}.{secrets.token_hex(4)}.tmp'  # Two may run at once.
  # array_record's writer raises RuntimeError.
  with storage.writing(target, RuntimeError):
    # JPEG cannot be compressed further.
    writer = array_record_module.ArrayRecordWriter(
      temporary, 'group_size:1,uncompressed'
    )
    number = 0
    try:
      for record in read(file.path):
        writer.write(record)
        number += 1
    finally:
      writer.close()
    if number != file.num_records:
      raise PreparationError(
        f'{file.path} has {number} records, but {INFO} says {file.num_records}.'
      )
    with open(temporary, 'rb') as whole:
      os.fsync(whole.fileno())  # Some systems only say here that it is full.
    os.replace(temporary, target)


def read(path: str) -> Iterator[bytes]:
  """Yields the records of a TFRecord file.

  A record is its length (8 bytes, little-endian), a checksum of these bytes,
  its content and a checksum of that (4 bytes each; see `_checksum`).

  Raises:
    PreparationError: if the file cannot be read, is damaged or is cut off; says
      at which record.
  """
  number = 0
  try:
    size = files.check_regular(path)
    with open(path, 'rb') as file:
      while (place := file.tell()) < size:
        number += 1
        record = _checked(file, _length(file, size), size)
        yield record
  except OSError as error:
    raise PreparationError(f'{path} cannot be read: {error}.') from error
  except DamagedRecordError as error:
    where = f', record {number} at byte {place}' if number else ''
    raise PreparationError(f'{path}{where}: {error}') from error


def _length(file: BinaryIO, size: int) -> int:
  return int.from_bytes(_checked(file, 8, size), 'little')


def _checked(file: BinaryIO, length: int, size: int) -> bytes:
  """Reads that many bytes and their checksum from a file of `size` bytes.

  Raises:
    DamagedRecordError: if the file is shorter, or the checksum wrong.
  """
  if file.tell() + length + 4 > size:
    raise DamagedRecordError('The file is cut off.')
  if length > files.MAX_BYTES:
    raise DamagedRecordError(f'It has {length} bytes.')
  data = file.read(length)
  if file.read(4) != _checksum(data):
    raise DamagedRecordError('Its checksum is wrong.')
  return data


def _checksum(data: bytes) -> bytes:
  """CRC-32C, rotated and shifted so that it may be checksummed itself."""
  crc = google_crc32c.value(data)
  masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
  return masked.to_bytes(4, 'little')
