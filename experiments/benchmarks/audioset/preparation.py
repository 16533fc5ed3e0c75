"""Prepares AudioSet once, from clips and the official CSVs, in many processes.

Each clip is decoded to a part, a small file of its own; where the parts of a
file are complete, they are joined to it. All that happens in a directory with
another name, which is renamed when everything is in it. Run again after it was
killed, at any moment, it goes on with what is there.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import shutil

from array_record.python import array_record_module
import numpy as np
import tqdm

from experiments.benchmarks.audioset import csv_files, media, source
from experiments.benchmarks.audioset.clips import (
  Clip,
  make_plan,
  Plan,
  SUFFIXES,
  write_report,
)
from experiments.benchmarks.audioset.workers import Job, Lost, Workers
from experiments.errors import PreparationError

CLIPS_PER_FILE = 512  # About 2.5 GB.
SECONDS = 10.0  # Of processor time, to decode a clip; most take less than 1.
PATIENCE = 60.0  # Seconds by the clock, on however busy a machine.
REPORT = 'report.csv'
PARTS = 'parts'
SKIPPED = '.skipped'  # After a part's name: why it is not there.
PLAN = 'plan.sha256'  # In the same folder, which is removed in the end.


@dataclasses.dataclass(frozen=True)
class _File:
  """Of array_record, with some consecutive clips of a split."""

  path: str
  split: str
  clips: Sequence[Clip]
  parts: Sequence[str]  # Of each clip: what it is decoded to.


@dataclasses.dataclass(frozen=True)
class _Decoding:
  """A clip to be decoded, and where to."""

  clip: Clip
  part: str
  file: int  # Number of the file that it will go to.


def decode_clip(job: _Decoding) -> str | None:
  """Writes a clip's records to a file; or says why it is skipped."""
  try:
    frames, audio = media.decode(os.path.abspath(job.clip.path))
  except Exception as error:  # Bad data leads to almost any.
    known = isinstance(error, media.MediaError)
    return str(error) if known else f'{type(error).__name__}: {error}'
  segment = job.clip.segment
  record = source.Record(
    id=segment.id,
    labels=np.array(segment.labels),
    frames=frames,
    audio=audio,
  )
  _write_records(job.part, source.encode(record))
  return None


def join_clips(file: _File) -> None:
  """Joins the clips of a file but those that were skipped."""

  def records() -> Iterator[bytes]:
    for part in file.parts:
      if not os.path.exists(part + SKIPPED):
        reader = array_record_module.ArrayRecordReader(part)
        yield from reader.read_all()
        reader.close()

  _write_records(file.path, records())


def _write_records(path: str, records: Iterable[bytes]) -> None:
  """Writes an array_record file, which is there only when it is whole."""
  # The process that a killed run left behind may write the same.
  temporary = f'{path}.{os.getpid()}.tmp'
  # JPEG cannot be compressed, and the sound hardly.
  writer = array_record_module.ArrayRecordWriter(
    temporary, 'group_size:1,uncompressed'
  )
  for record in records:
    writer.write(record)
  writer.close()
  os.replace(temporary, path)


def prepare(
  clips: str, csv_folder: str, data_dir: str, num_processes: int
) -> str:
  """Writes a data set that `source.open_source` reads; it may exist.

  Args:
    clips: directory with the files, named <video id> or <video id>_<start>.
    csv_folder: with AudioSet's CSVs.
    data_dir: to write to.
    num_processes: that decode.

  Returns:
    One line on what is there now.

  Raises:
    FileNotFoundError: if there are no clips, or no CSVs.
    PreparationError: if no clip can be read; if the clips or the CSVs have
      changed since an earlier try; or if writing fails.
    ValueError: if a CSV is not as it should be.
    OSError: if processes to decode in cannot start, or are killed.
  """
  path = source.directory(data_dir)
  if os.path.isdir(path):
    shutil.rmtree(os.path.join(path, PARTS), ignore_errors=True)
    return f'{path} is prepared already; remove it to prepare it again.'
  if not os.path.isdir(clips):
    raise FileNotFoundError(f'There is no directory {clips!r} with clips.')
  classes = csv_files.read_classes(csv_folder)
  segments = csv_files.read_segments(csv_folder, classes)
  plan = make_plan(clips, segments)
  if not plan.clips:
    raise FileNotFoundError(
      f'None of the {len(segments)} rows of the CSVs has a clip in {clips!r}:'
      f' looked for <video id>.* and <video id>_<start>.* with'
      f' {", ".join(SUFFIXES)}; there are {len(plan.skipped)}'
      ' such files with other names.'
    )
  folder = source.incomplete_directory(data_dir)
  _begin(folder, plan, clips, classes)
  files = _files(folder, plan)
  _run(folder, files, num_processes)
  return _finish(folder, path, plan, files, classes)


def _begin(
  folder: str, plan: Plan, clips: str, classes: csv_files.Classes
) -> None:
  """Makes the directory to work in, unless an earlier try has."""
  digest = hashlib.sha256(repr(classes).encode())
  for clip in plan.clips:
    name, size = os.path.relpath(clip.path, clips), os.path.getsize(clip.path)
    digest.update(repr((clip.segment, name, size)).encode())
  mark = os.path.join(folder, PARTS, PLAN)
  if os.path.exists(mark):
    with open(mark) as file:
      if file.read() != digest.hexdigest():
        raise PreparationError(
          f'{folder} is half prepared, from other clips or CSVs than there are'
          ' now. Remove it to begin anew.'
        )
    return
  os.makedirs(os.path.join(folder, PARTS), exist_ok=True)
  _write_text(mark, digest.hexdigest())


def _files(folder: str, plan: Plan) -> list[_File]:
  files = []
  for split in csv_files.SEGMENTS:
    clips = [clip for clip in plan.clips if clip.segment.split == split]
    for start in range(0, len(clips), CLIPS_PER_FILE):
      some = clips[start : start + CLIPS_PER_FILE]
      name = f'{split}-{start // CLIPS_PER_FILE:05}.array_record'
      parts = [
        os.path.join(folder, PARTS, f'{split}-{start + i:07}')
        for i in range(len(some))
      ]
      files.append(_File(os.path.join(folder, name), split, some, parts))
  return files


def _run(folder: str, files: Sequence[_File], num_processes: int) -> None:
  """Decodes and joins what is not there yet."""
  there = set(os.listdir(os.path.join(folder, PARTS)))
  done = lambda part: (
    not there.isdisjoint(
      {os.path.basename(part), os.path.basename(part) + SKIPPED}
    )
  )
  missing: dict[int, int] = {}  # Parts by number of the file.

  def jobs() -> Iterator[Job]:
    for number, file in enumerate(files):
      parts = list(zip(file.clips, file.parts, strict=True))
      if os.path.exists(file.path):
        parts = []
      todo = [(clip, part) for clip, part in parts if not done(part)]
      bar.update(len(file.clips) - len(todo))
      missing[number] = len(todo)
      if parts and not todo:
        yield Job(join_clips, file)
      for clip, part in todo:
        yield Job(decode_clip, _Decoding(clip, part, number), SECONDS, PATIENCE)

  total = sum(len(file.clips) for file in files)
  skipped = 0
  with (
    Workers(num_processes, __name__) as workers,
    tqdm.tqdm(total=total, unit=' clips') as bar,
  ):
    for job, result in workers.run(jobs()):
      if isinstance(job.argument, _File):
        if isinstance(result, Lost):
          raise PreparationError(f'{job.argument.path}: {result.reason}')
        _remove(job.argument.parts)
        continue
      if result is not None:
        reason = result.reason if isinstance(result, Lost) else result
        _write_text(job.argument.part + SKIPPED, reason)
        skipped += 1
        bar.set_postfix(skipped=skipped, refresh=False)
      bar.update()
      number = job.argument.file
      missing[number] -= 1
      if not missing[number]:
        workers.submit(Job(join_clips, files[number]))


def _remove(paths: Iterable[str]) -> None:
  for path in paths:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)


def _finish(
  folder: str,
  path: str,
  plan: Plan,
  files: Sequence[_File],
  classes: csv_files.Classes,
) -> str:
  """Describes what was written, and gives it its name."""
  splits: dict[str, dict[str, int]] = {
    split: {} for split in csv_files.SEGMENTS
  }
  skipped: list[tuple[Clip, str]] = []
  there = set(os.listdir(os.path.join(folder, PARTS)))
  for file in files:
    reader = array_record_module.ArrayRecordReader(file.path)
    size = reader.num_records() // source.RECORDS
    reader.close()
    if size:
      splits[file.split][os.path.basename(file.path)] = size
    for clip, part in zip(file.clips, file.parts, strict=True):
      if os.path.basename(part) + SKIPPED in there:
        with open(part + SKIPPED, encoding='utf-8') as text:
          skipped.append((clip, text.read()))
  sizes = {split: sum(counts.values()) for split, counts in splits.items()}
  if not sum(sizes.values()):
    shutil.rmtree(folder)
    clip, reason = skipped[0]
    raise PreparationError(
      f'None of {len(plan.clips)} clips can be decoded; {clip.path}: {reason}'
    )
  write_report(os.path.join(folder, REPORT), plan, sizes, skipped)
  info = {
    'classes': list(zip(classes.mids, classes.names, strict=True)),
    'splits': splits,
  }
  _write_text(os.path.join(folder, source.INFO), json.dumps(info, indent=1))
  # What killed processes were at.
  _remove(glob.glob(os.path.join(glob.escape(folder), '*.tmp')))
  os.rename(folder, path)
  shutil.rmtree(os.path.join(path, PARTS))
  counts = ', '.join(
    f'{size:,} clips for {split}' for split, size in sizes.items()
  )
  return (
    f'{path}: {counts}; {len(skipped) + len(plan.skipped):,} files skipped,'
    f' {len(plan.missing):,} CSV rows without a clip (all named in {REPORT}).'
  )


def _write_text(path: str, text: str) -> None:
  """Writes a file, which is there only when it is whole."""
  with open(f'{path}.tmp', 'w', encoding='utf-8') as file:
    file.write(text)
  os.replace(f'{path}.tmp', path)
