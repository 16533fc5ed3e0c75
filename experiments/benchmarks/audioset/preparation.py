"""Prepares AudioSet once, from clips and the official CSVs, in many processes.

Each clip is decoded to a part, a small file of its own; when the parts of a
file are complete, they are joined to it. All this happens in a directory with
another name, which is renamed when everything is in it. After a kill at any
moment, the same command goes on with what is there.

Each of several machines that share the directory may do a shard: every n-th
file. The last step is the whole preparation, which finds those files done.
"""

from collections.abc import Iterator, Sequence
import hashlib
import json
import os
import shutil

import tqdm

from experiments import storage
from experiments.benchmarks import listing
from experiments.benchmarks.audioset import csv_files, parts, source
from experiments.benchmarks.audioset.clips import (
  Clip,
  make_plan,
  NAMES,
  Plan,
  write_report,
)
from experiments.benchmarks.audioset.media.formats import SUFFIXES
from experiments.benchmarks.audioset.parts import Decoding, File, PARTS, SKIPPED
from experiments.benchmarks.audioset.workers import Job, Lost, Workers
from experiments.errors import PreparationError

CLIPS_PER_FILE = 512  # About 2.5 GB.
SECONDS = 10.0  # Processor time to decode a clip; most take less than 1.
# More for each second before the clip: in a whole video, the sound before it is
# decoded too, which takes 0.003 on an idle machine.
SECONDS_BEFORE = 0.01
PATIENCE = 60.0  # Seconds by the clock, also on a busy machine.
REPORT = 'report.csv'
PLAN = 'plan'  # Prefix of an empty file beside the parts.


def prepare(
  clips: str,
  csv_folder: str,
  data_dir: str,
  num_processes: int,
  *,
  shard: tuple[int, int] | None = None,
  clips_per_file: int = CLIPS_PER_FILE,
) -> str:
  """Writes a data set that `source.open_source` reads, unless it exists.

  Args:
    clips: directory with the files; `clips.NAMES` are their names.
    csv_folder: with AudioSet's CSVs.
    data_dir: to write to.
    num_processes: how many decode.
    shard: (i, n): only the files i, i + n, …; if there are fewer than n, some
      shards have no work. None: all that is missing, and the last step.
    clips_per_file: most clips of an array_record file; the same for all shards.

  Returns:
    One line on what is there now.

  Raises:
    FileNotFoundError: if there are no clips, or no CSVs.
    PreparationError: if no clip can be read; if the clips or the CSVs are not
      those of an earlier try or of another shard; or if a file is damaged.
    ValueError: if a CSV is malformed.
    OSError: if something cannot be read or written, or if the processes that
      decode cannot start, or are killed.
  """
  path = source.directory(storage.local(data_dir))
  there = f'{path} is prepared already; remove it to prepare it again.'
  if os.path.isdir(path):
    shutil.rmtree(os.path.join(path, PARTS), ignore_errors=True)
    return there
  if os.path.isfile(clips):
    raise FileNotFoundError(
      f'{clips!r} is a file; give the folder that has the clips, unpacked.'
    )
  if not os.path.isdir(clips):
    raise FileNotFoundError(f'There is no directory {clips!r} with clips.')
  classes = csv_files.read_classes(csv_folder)
  segments = csv_files.read_segments(csv_folder, classes)
  plan = make_plan(clips, segments)
  if not plan.clips:
    example = ''
    if plan.skipped:
      file, reason = plan.skipped[0]
      example = f'; {file}: {reason.removesuffix(".")}'
    raise FileNotFoundError(
      f'None of the {len(segments)} rows of the CSVs has a clip in {clips!r}:'
      f' looked for {NAMES} with {", ".join(SUFFIXES)}; in it there are'
      f' {listing.inside(clips)}{example}.'
    )
  folder = source.incomplete_directory(data_dir)
  files = _files(folder, plan, clips_per_file)
  _begin(folder, _digest(plan, clips, classes, clips_per_file))
  try:
    if shard is None:
      _run(folder, files, num_processes)
      return _finish(folder, path, plan, files, classes)
    index, count = shard
    own = files[index::count]
    _run(folder, own, num_processes)
  except OSError:
    if os.path.isdir(path):  # Another process has finished meanwhile.
      return there
    raise
  return (
    f'{folder}: shard {index} of {count} is done, {len(own):,} files of'
    f' {len(files):,}. When all are, the same command without --shard checks'
    ' the data set, and gives it its name.'
  )


def _digest(
  plan: Plan, clips: str, classes: csv_files.Classes, clips_per_file: int
) -> str:
  """Returns a digest of all that decides what is prepared."""
  digest = hashlib.sha256(repr((classes, clips_per_file)).encode())
  for clip in plan.clips:
    name, size = os.path.relpath(clip.path, clips), os.path.getsize(clip.path)
    digest.update(repr((clip.segment, name, size)).encode())
  return digest.hexdigest()


def _begin(folder: str, digest: str) -> None:
  """Makes the directory to work in, unless an earlier try has made it."""
  mark = f'{PLAN}-{digest}'
  begun = os.path.join(folder, PARTS)
  try:
    os.makedirs(begun, exist_ok=True)
    # Twice: another shard, with another plan, may have begun after the first.
    for _ in range(2):
      marks = {name for name in os.listdir(begun) if name.startswith(PLAN)}
      if marks - {mark}:
        raise PreparationError(
          f'{folder} is half prepared, from other clips or CSVs than there are'
          ' now, or with another number of clips in a file. Remove it to begin'
          ' anew.'
        )
      open(os.path.join(begun, mark), 'a').close()
  except OSError as error:
    raise OSError(
      f'{folder} cannot be written ({error}). When it can be, the same command'
      ' goes on; or give another --data_dir.'
    ) from error


def _files(folder: str, plan: Plan, clips_per_file: int) -> list[File]:
  files = []
  for split in csv_files.SEGMENTS:
    clips = [clip for clip in plan.clips if clip.segment.split == split]
    for start in range(0, len(clips), clips_per_file):
      some = clips[start : start + clips_per_file]
      name = f'{split}-{start // clips_per_file:05}.array_record'
      names = [
        os.path.join(folder, PARTS, f'{split}-{start + i:07}')
        for i in range(len(some))
      ]
      files.append(File(os.path.join(folder, name), split, some, names))
  return files


def _run(folder: str, files: Sequence[File], num_processes: int) -> None:
  """Decodes and joins what is missing."""
  there = set(os.listdir(os.path.join(folder, PARTS)))

  def is_done(part: str) -> bool:
    name = os.path.basename(part)
    return name in there or name + SKIPPED in there

  missing: dict[int, int] = {}  # Parts to do, by number of the file.

  def jobs() -> Iterator[Job]:
    for number, file in enumerate(files):
      pairs = list(zip(file.clips, file.parts, strict=True))
      if os.path.exists(file.path):
        pairs = []
      todo = [(clip, part) for clip, part in pairs if not is_done(part)]
      bar.update(len(file.clips) - len(todo))
      missing[number] = len(todo)
      if pairs and not todo:
        yield Job(parts.join, file)
      for clip, part in todo:
        job = Decoding(clip, part, number)
        more = SECONDS_BEFORE * clip.segment.start
        yield Job(parts.decode_clip, job, SECONDS + more, PATIENCE)

  total = sum(len(file.clips) for file in files)
  skipped = 0
  with (
    Workers(num_processes, parts.__name__) as workers,
    tqdm.tqdm(total=total, unit=' clips') as bar,
  ):
    for job, result in workers.run(jobs()):
      if isinstance(job.argument, File):
        if isinstance(result, Lost):
          raise PreparationError(f'{job.argument.path}: {result.reason}')
        continue
      if result is not None:
        reason = result.reason if isinstance(result, Lost) else result
        _write_text(job.argument.part + SKIPPED, folder, reason)
        skipped += 1
        bar.set_postfix(skipped=skipped, refresh=False)
      bar.update()
      number = job.argument.file
      missing[number] -= 1
      if not missing[number]:
        workers.submit(Job(parts.join, files[number]))


def _finish(
  folder: str,
  path: str,
  plan: Plan,
  files: Sequence[File],
  classes: csv_files.Classes,
) -> str:
  """Checks and describes what was written, and gives it its name."""
  splits: dict[str, dict[str, int]] = {x: {} for x in csv_files.SEGMENTS}
  skipped: list[tuple[Clip, str]] = []
  damaged: list[str] = []
  there = set(os.listdir(os.path.join(folder, PARTS)))
  for file in files:
    size = len(file.clips)
    for clip, part in zip(file.clips, file.parts, strict=True):
      if os.path.basename(part) + SKIPPED in there:
        size -= 1
        with open(part + SKIPPED, encoding='utf-8') as text:
          skipped.append((clip, text.read()))
    if parts.count_records(file.path) != source.RECORDS * size:
      damaged.append(file.path)
    if size:
      splits[file.split][os.path.basename(file.path)] = size
  if damaged:
    parts.remove(damaged)
    raise PreparationError(
      f'{len(damaged)} files were damaged, so they are removed, the first one'
      f' {damaged[0]}. The same command makes them again.'
    )
  sizes = {split: sum(counts.values()) for split, counts in splits.items()}
  if not sum(sizes.values()):
    shutil.rmtree(folder)
    clip, reason = skipped[0]
    raise PreparationError(
      f'None of {len(plan.clips)} clips can be decoded; {clip.path}: {reason}'
    )
  report = os.path.join(folder, REPORT)
  with parts.writing(report, os.path.join(folder, PARTS)) as temporary:
    write_report(temporary, plan, sizes, skipped)
  info = {
    'classes': list(zip(classes.mids, classes.names, strict=True)),
    'splits': splits,
  }
  _write_text(
    os.path.join(folder, source.INFO), folder, json.dumps(info, indent=1)
  )
  os.rename(folder, path)
  # It has what killed processes left; some of their workers may go on.
  shutil.rmtree(os.path.join(path, PARTS), ignore_errors=True)
  counts = ', '.join(
    f'{size:,} clips for {split}' for split, size in sizes.items()
  )
  return (
    f'{path}: {counts}; {len(skipped) + len(plan.skipped):,} files skipped,'
    f' {len(plan.missing):,} CSV rows without a clip,'
    f' {len(plan.others):,} other files (all named in {REPORT}).'
  )


def _write_text(path: str, folder: str, text: str) -> None:
  with (
    parts.writing(path, os.path.join(folder, PARTS)) as temporary,
    open(temporary, 'w', encoding='utf-8') as file,
  ):
    file.write(text)
