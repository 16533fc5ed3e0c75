"""The paper's attention maps (Figs. 3, 7 to 31): where latents look."""

from collections.abc import Callable, Iterator, Sequence
import functools
import io
import logging
import pathlib
import re
from typing import Any

from etils import epath
import numpy as np

from experiments import saved, storage
from experiments.errors import DamagedRecordError
from experiments.experiment import Experiment
from experiments.task import Batch
from scripts.attention_maps import sheet
from scripts.shared import drawing
from scripts.shared.mapper import Mapper, SegmentMaps

log = logging.getLogger('experiments.attention_maps')


def write(
  workdir: str,
  *,
  files: Sequence[str] = (),
  examples: Sequence[int] = (),
  output: str | None = None,
  data_dir: str | None = None,
  checkpoint: str | None = None,
  window: int = 0,
  arrays: bool = False,
  **choice: Any,
) -> list[epath.Path]:
  """Writes the maps of some inputs.

  Args:
    workdir: the directory of a trained run.
    files: the files to read as inputs.
    examples: indices in the evaluation split.
    output: the folder to write to; None for 'attention_maps' in the workdir.
    data_dir: where the run's data is here; None for where it was.
    checkpoint: 'latest' or 'best'; None for the choice of the run's config.
    window: which window of an example, if evaluation averages several.
    arrays: whether to write each example's numbers too, as .npz.
    **choice: the arguments of `Mapper`.

  Returns:
    The paths of the files written.

  Raises:
    ValueError: if the model or the split lacks what is requested.
    FileNotFoundError: if there is no run, no checkpoint or no data.
    OSError: if the folder cannot be written.
    errors.DamagedRecordError: if a file cannot be read.
  """
  run = saved.open_run(workdir, data_dir, checkpoint)
  display = run.task.display
  if not 0 <= window < display.num_windows:
    raise ValueError(
      f'--window={window}: an example has {display.num_windows}, from 0 on.'
    )
  # Before anything takes long.
  inputs = list(_open(run, files, examples, window))
  folder = storage.path(output or storage.path(workdir) / 'attention_maps')
  storage.check_folder(folder)
  names = saved.class_names(run, workdir)
  mapper = Mapper(run, saved.restore(run, workdir), **choice)
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for stem, load, is_labelled in inputs:
    example = load()
    title = display.truth(example, names) if is_labelled else 'input'
    segments = mapper(example)
    for segment in segments:
      suffix = f'_{segment.view.kind}' if len(segments) > 1 else ''
      is_timed = segment.view.kind in ('video', 'sound')
      pixels = sheet.draw(sheet.panels(segment, title), in_rows=not is_timed)
      paths.append(folder / f'{stem}{suffix}.png')
      storage.write(paths[-1], drawing.png(pixels))
    if arrays:
      paths.append(folder / f'{stem}.npz')
      stream = io.BytesIO()
      np.savez(stream, **_arrays(mapper, segments))
      storage.write(paths[-1], stream.getvalue())
    log.info('%s: %d maps.', stem, len(mapper.latents))
  return paths


def _open(
  run: Experiment, files: Sequence[str], examples: Sequence[int], window: int
) -> Iterator[tuple[str, Callable[[], Batch], bool]]:
  """Yields a file stem, a loader and whether there is a label, per input."""
  task, show = run.task, run.task.display.window
  if examples:
    split = task.eval_splits[0]
    source = run.source(split)
    for i in examples:
      if not 0 <= i < len(source):
        raise ValueError(
          f'There is no example {i}: the split {split!r} has 0 to'
          f' {len(source) - 1}.'
        )
      load = lambda i=i: show(task.eval_example(source[i]), window)
      yield f'{split}_{i}', load, True
  stems: dict[str, int] = {}
  for path, record in task.file_reader.read(files):
    try:
      if isinstance(record, Exception):
        raise record
      example = show(task.eval_example(record), window)
    except ValueError as error:  # DamagedRecordError is one.
      raise DamagedRecordError(f'{path}: {error}') from error
    stem = pathlib.Path(path).stem
    stems[stem] = stems.get(stem, 0) + 1
    if stems[stem] > 1:
      stem = f'{stem}_{stems[stem]}'
    yield stem, functools.partial(dict, example), False


def _arrays(mapper: Mapper, segments: Sequence[SegmentMaps]) -> dict[str, Any]:
  """Returns 'KIND_QUANTITY' [cross-attends, …], and the values of the axes."""
  arrays: dict[str, Any] = {
    'cross_attends': np.array(mapper.cross_attends),
    'latents': np.array(mapper.latents),
  }
  for segment in segments:
    for quantity, by_number in segment.maps.items():
      values = np.stack(list(by_number.values()))
      arrays[f'{segment.view.kind}_{quantity}'] = values
  return arrays


def parse_latents(text: str | None) -> list[int] | None:
  """Parses '0-3,8' as [0, 1, 2, 3, 8]. Raises ValueError for anything else."""
  if text is None:
    return None
  latents: list[int] = []
  for part in text.split(','):
    match = re.fullmatch(r'(\d{1,6})(?:-(\d{1,6}))?', part.strip(), re.ASCII)
    if not match:
      raise ValueError(f'--latents={text}: {part!r} is neither 3 nor 0-15.')
    first, last = int(match[1]), int(match[2] or match[1])
    latents.extend(range(first, last + 1))
  if not latents:
    raise ValueError(f'--latents={text} are none.')
  return latents
