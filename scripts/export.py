r"""Writes a run's model for others: weights, what they need, and a card.

  python -m scripts.export runs/digits exports/digits
  python -m scripts.export --from=vision-perceiver-fourier exports/fourier

The folder gets model.safetensors, without the optimiser's state; config.json,
which says the model and its input; and README.md, a model card whose licence is
to be filled in. `perceiver.from_pretrained` loads it, with nothing of this
laboratory, and `--config.train.init_from` starts a run from it. --from converts
a folder of transformers' Perceivers for images instead.
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
    workdir: of the run.
    folder: to write, which does not exist yet, or is empty.
    dtype: of the weights in the file, see `weight_files.DTYPES`.
    checkpoint: 'latest' or 'best'; None: as the run's config says.

  Raises:
    FileNotFoundError: if there is no run or no checkpoint.
    FileExistsError: if the folder has something in it.
    OSError: if it cannot be written.
    ValueError: if the run is none of this version, or its model no Perceiver.
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
  params = jax.tree.map(np.asarray, state.params)
  card = _card(
    pathlib.Path(folder).name,
    cost.count_parameters(params),
    dtype,
    _history(run, workdir, int(state.step)),
  )
  tensors = exports.as_tensors(params)
  exports.write(folder, config, tensors, dtype=dtype, files={'README.md': card})


def convert(source: str, folder: str, *, dtype: str = 'float32') -> None:
  """Writes a folder of transformers' as one of ours.

  Args:
    source: as `perceiver.from_pretrained` takes.
    folder: as of `export`.
    dtype: likewise.

  Raises:
    FileExistsError: if the folder has something in it.
    OSError: if it cannot be written.
    FileNotFoundError: if there is no such source.
    ValueError: what is wrong with it.
  """
  _check(folder)
  config, tensors = exports.read(source)
  rows = {'Converted from': f'`{pathlib.Path(source).name}`'}
  card = _card(
    pathlib.Path(folder).name,
    cost.count_parameters(tensors),
    dtype,
    markdown.table(['', ''], rows.items()),
  )
  exports.write(folder, config, tensors, dtype=dtype, files={'README.md': card})


def _check(folder: str) -> None:
  """Raises OSError if it cannot be written, before it takes any time."""
  weight_files.check_is_free(storage.local(folder))
  storage.check_folder(storage.path(folder).absolute().parent)


def describe(run: Experiment, classes: list[str]) -> dict[str, Any]:
  """What config.json says of a run's model and its input."""
  choices = {*exports.CHOICES, 'mesh', 'name'}
  model = {
    x.name: run.config.model.get(x.name, x.default)
    for x in dataclasses.fields(perceiver.Perceiver)
    if x.name not in choices
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
  """What the run says of itself, in Markdown."""
  launch = telemetry.read_records(workdir, telemetry.LAUNCHES)[-1]
  found = [
    summary(record['split'], _metrics(record))
    for record in telemetry.read_metrics(workdir)
    if record['step'] == step and record['split'] in run.task.eval_splits
  ]
  config = run.config.to_dict()
  del config['data']  # Of the machine, not of the model.
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
license: # Fill in, of the weights.
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
logits = model(inputs)  # [B, classes]; as model.class_names has them.
```

`config.json` says what the inputs are.

## Licence

Fill in: the licence of these weights, and of the data they learnt from.
"""


def main(argv: list[str]) -> None:
  arguments = argv[1:]
  expected = ['OUT'] if _FROM.value else ['RUN', 'OUT']
  if len(arguments) != len(expected):
    raise app.UsageError(f'Expected {" ".join(expected)}, got {arguments}.')
  with command.running():
    arguments = list(map(storage.expand, arguments, expected))
    if _FROM.value:
      if _CHECKPOINT.value:
        raise ValueError('--checkpoint is of runs, not of --from.')
      convert(_FROM.value, arguments[0], dtype=_DTYPE.value)
    else:
      workdir, folder = arguments
      export(workdir, folder, dtype=_DTYPE.value, checkpoint=_CHECKPOINT.value)
    print(arguments[-1])


if __name__ == '__main__':
  _FROM = path_flags.define_path(
    'from', None, "A folder of transformers' to convert, instead of a run."
  )
  _DTYPE = flags.DEFINE_enum(
    'dtype', 'float32', sorted(weight_files.DTYPES), 'Of the weights.'
  )
  _CHECKPOINT = flags.DEFINE_enum(
    'checkpoint', None, ['latest', 'best'], "If not as the run's config says."
  )
  app.run(main)
