r"""Exports a run's model: its weights, config and model card.

  python -m scripts.export runs/digits exports/digits
  python -m scripts.export --from=vision-perceiver-fourier exports/fourier
  python -m scripts.export --from=deepmind/vision-perceiver-fourier@main OUT

The folder gets model.safetensors, without the optimiser's state; config.json,
which describes the model and its input; and README.md, a model card whose
licence you fill in. `perceiver.from_pretrained` loads the folder without this
laboratory, and `--config.train.init_from` starts a run from it. --from converts
a folder with one of transformers' Perceivers for images instead, which may also
be named by its repository on a hub, or a `.pystate` file of the authors.
"""

import dataclasses
import json
import pathlib
import shlex
from typing import Any

from absl import app, flags
import jax
import numpy as np

from experiments import path_flags, saved, storage, telemetry
from experiments.evaluate import summary
from experiments.experiment import Experiment
import perceiver
from perceiver import cost, exports, modalities, weight_files
from perceiver.importers import hub
from scripts.shared import command, markdown


def export(
  workdir: str,
  folder: str,
  *,
  dtype: str = 'float32',
  checkpoint: str | None = None,
) -> None:
  """Exports a run's checkpoint.

  Args:
    workdir: the directory of the run.
    folder: the folder to write, which must be empty or not exist.
    dtype: the dtype of the weights in the file, of `weight_files.DTYPES`.
    checkpoint: 'latest' or 'best'; None for the choice of the run's config.

  Raises:
    FileNotFoundError: if there is no run or no checkpoint.
    FileExistsError: if the folder is not empty.
    OSError: if it cannot be written.
    ValueError: if the run is of another version, or not of a Perceiver.
  """
  _check(folder)
  run = saved.open_run(workdir, checkpoint=checkpoint)
  if run.config.model.name != 'perceiver':
    raise ValueError(
      f'model.name={run.config.model.name!r}: only Perceivers are exported.'
    )
  classes = list(saved.class_names(run, workdir))
  config = describe(run, classes)
  state = saved.restore(run, workdir)
  tensors = exports.as_tensors(jax.tree.map(np.asarray, state.params))
  history = _history(run, workdir, int(state.step))
  _write(folder, config, tensors, dtype, history)


def convert(source: str, folder: str, *, dtype: str = 'float32') -> None:
  """Converts a folder of transformers, or a file of the authors, to ours.

  `source` is as for `perceiver.from_pretrained`; `folder` and `dtype` are as
  for `export`.

  Raises:
    FileExistsError: if the folder is not empty.
    OSError: if it cannot be written, or the source cannot be downloaded.
    FileNotFoundError: if there is no such source.
    ValueError: if something is wrong with it.
  """
  _check(folder)
  found = hub.find(source)
  config, tensors = exports.read(found)
  rows = [('Converted from', f'`{pathlib.Path(source).name}`')]
  if found != source:
    commit = pathlib.Path(found).name
    rows = [('Converted from', f'`{source}`'), ('Its commit', f'`{commit}`')]
  _write(folder, config, tensors, dtype, markdown.table(['', ''], rows))


def _check(folder: str) -> None:
  """Raises OSError, before any long work, if the folder cannot be written."""
  weight_files.check_is_free(storage.local(folder))
  storage.check_folder(storage.path(folder).absolute().parent)


def _write(
  folder: str,
  config: dict[str, Any],
  tensors: dict[str, np.ndarray],
  dtype: str,
  history: str,
) -> None:
  name, parameters = pathlib.Path(folder).name, cost.count_parameters(tensors)
  card = _card(name, parameters, dtype, history)
  exports.write(folder, config, tensors, dtype=dtype, files={'README.md': card})


def describe(run: Experiment, classes: list[str]) -> dict[str, Any]:
  """Returns the contents of config.json: a run's model and its input."""
  model = {
    x.name: run.config.model.get(x.name, x.default)
    for x in dataclasses.fields(perceiver.Perceiver)
    if x.name not in exports.CHOICES
  }
  return {
    'model': model,
    'input': {
      name: modalities.to_json(x) for name, x in run.task.modalities.items()
    },
    'classes': classes,
    'scores': 'sigmoid' if run.task.has_several_labels else 'softmax',
  }


def _history(run: Experiment, workdir: str, step: int) -> str:
  """Describes how the model was trained, in Markdown."""
  launch = telemetry.read_records(workdir, telemetry.LAUNCHES)[-1]
  found = [
    summary(record['split'], _metrics(record))
    for record in telemetry.read_metrics(workdir)
    if record['step'] == step and record['split'] in run.task.eval_splits
  ]
  config = run.config.to_dict()
  del config['data']  # It describes the machine, not the model.
  devices = launch['devices']
  rows = {
    'Task': f'`{run.config.task.name}`, {run.task.num_classes} classes',
    'Data': ', '.join(
      f'{run.task.num_examples(split):,} examples of the split `{split}`'
      for split in (run.task.train_split, *run.task.eval_splits)
    ),
    'Metric': '; '.join(found) or 'not evaluated at this step',
    'Step': f'{step:,} of {run.total_steps:,}',
    'Commit': f'`{launch["commit"]}`',
    'Device': f'{len(devices)} x {devices[0]}',
  }
  arguments = shlex.join(launch['command'][1:])
  table = markdown.table(['', ''], rows.items())
  return (
    f'{table}\n\nTrained by\n\n```\n'
    f'python -m experiments.run {arguments}\n'
    '```\n\nwith this config:\n\n```json\n'
    f'{json.dumps(config, indent=1, default=str)}\n```'
  )


def _metrics(record: dict[str, Any]) -> dict[str, Any]:
  return {k: x for k, x in record.items() if k not in ('step', 'split', 'time')}


def _card(name: str, parameters: int, dtype: str, history: str) -> str:
  return f"""\
---
license: # Fill in: the licence of the weights.
library_name: perceiver-haiku
tags: [perceiver, jax, haiku]
---

# {name}

A Perceiver of {parameters / 1e6:.3g} M parameters, stored in {dtype}.

{history}

## Use

```python
import perceiver

model = perceiver.from_pretrained('{name}')
logits = model(inputs)  # [B, classes], in the order of model.class_names.
```

`config.json` describes the inputs.

## Licence

Fill in: the licence of these weights, and of the data they learnt from.
"""


@command.running()
def main(argv: list[str]) -> None:
  arguments = argv[1:]
  expected = ['OUT'] if _FROM.value else ['RUN', 'OUT']
  if len(arguments) != len(expected):
    raise app.UsageError(f'Expected {" ".join(expected)}, got {arguments}.')
  arguments = list(map(storage.expand, arguments, expected))
  if _FROM.value:
    if _CHECKPOINT.value:
      raise ValueError('--checkpoint is for runs, not for --from.')
    convert(_FROM.value, arguments[0], dtype=_DTYPE.value)
  else:
    workdir, folder = arguments
    export(workdir, folder, dtype=_DTYPE.value, checkpoint=_CHECKPOINT.value)
  print(arguments[-1])


if __name__ == '__main__':
  _FROM = path_flags.define_path(
    'from',
    None,
    'What to convert instead of a run: a folder of transformers, the name of'
    ' its repository on a hub, OWNER/NAME or OWNER/NAME@REVISION, or a .pystate'
    ' file.',
  )
  _DTYPE = flags.DEFINE_enum(
    'dtype', 'float32', sorted(weight_files.DTYPES), 'The dtype of the weights.'
  )
  _CHECKPOINT = flags.DEFINE_enum(
    'checkpoint',
    None,
    ['latest', 'best'],
    "By default, the choice of the run's config.",
  )
  app.run(main)
