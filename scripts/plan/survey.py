"""Plans the paper's models on the hardware that users have.

  python -m scripts.plan.survey --output=experiments/results/plans.json
  python -m scripts.plan.survey --output=… --print_only

It adds the plans of this commit to the file, one after the other, and prints
all as a table, so plans before and after a change stand together. A plan that
the file has is not made again. On two CPU cores it takes one to two hours.
"""

import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

from absl import app, flags

from experiments import path_flags, storage, telemetry
from scripts.plan import targets
from scripts.shared import command, markdown, measurements

# Examples on a TPU chip and on a GPU, by config. A chip's program depends only
# on its own examples, so small slices stand for all.
MODELS = {
  'imagenet.py': (16, 128),
  'audioset.py:av_mel': (4, 16),
  'modelnet40.py': (8, 64),
}
DEVICES = {'v5e:4x4': 16, 'v4:2x2x4': 16, 'v5p:2x2x4': 16, 'h100:8': 8}
ROWS = [(config, target) for target in DEVICES for config in MODELS]

_OUTPUT = path_flags.define_path(
  'output', None, 'The file with all plans.', required=True
)
_PRINT_ONLY = flags.DEFINE_bool('print_only', False, 'Plan nothing more.')


def _plan(config: str, target: str) -> dict[str, Any]:
  """Plans in a process of its own. Raises OSError if it fails."""
  is_gpu = targets.parse(target).platform == 'gpu'
  examples = MODELS[config][is_gpu]
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'plan.json'
    result = subprocess.run(
      [
        *(sys.executable, '-m', 'scripts.plan', f'--target={target}'),
        *(f'--config=configs/{config}', f'--json={path}'),
        f'--config.train.batch_size={examples * DEVICES[target]}',
      ],
      stdout=subprocess.DEVNULL,
    )
    if result.returncode:
      raise OSError(f'The plan of {config} on {target} failed, see above.')
    plan = json.loads(path.read_text())
  keys = 'commit', 'compiler', 'compile_s', 'refusal', 'memory', 'estimated_ms'
  cost = plan['cost'] or {}
  return {
    **{'config': config, 'target': target, 'examples': examples},
    **{key: plan[key] for key in keys},
    **{key: cost.get(key) for key in ('cycles', 'kernels', 'collectives')},
  }


def table(plans: list[dict[str, Any]]) -> str:
  """Returns all plans in Markdown, those of a model and target together."""

  def row(plan):
    memory, ms = plan['memory'], plan['estimated_ms']
    gib = lambda key: f'{memory[key] / targets.GIB:.2f}'
    return (
      f'`{plan["config"]}`',
      f'`{plan["target"]}`',
      plan['examples'],
      plan['commit'][:7],
      f'{gib("arguments")} + {gib("temporaries")}' if memory else 'too much',
      f'{sum(plan["cycles"].values()) / 1e6:.1f}' if ms else '–',
      f'{ms:.1f}' if ms else '–',
      f'{plan["compile_s"] / 60:.1f}' if plan['compile_s'] else '–',
    )

  place = lambda plan: ROWS.index((plan['config'], plan['target']))
  return markdown.table(
    (
      *('config', 'target', 'on a device', 'commit', 'memory, GiB'),
      *('Mcycles', 'ms', 'compiled, min'),
    ),
    map(row, sorted(plans, key=place)),
    'llrlrrrr',
  )


def add(path: str) -> None:
  """Adds to a file what it lacks of this commit's plans, one by one."""
  plans = _read(path)
  for config, target in ROWS:
    wanted = {'commit': telemetry.commit(), 'config': config, 'target': target}
    if any(wanted.items() <= plan.items() for plan in plans):
      continue
    plans.append(_plan(config, target))
    with storage.writing(path), open(path, 'w') as file:
      json.dump(plans, file, indent=1)


def _read(path: str) -> list[dict[str, Any]]:
  return json.loads(Path(path).read_text()) if Path(path).exists() else []


@command.running()
def main(argv: list[str]) -> None:
  del argv
  path = _OUTPUT.value
  measurements.check(path)
  if not _PRINT_ONLY.value:
    add(path)
  print(table(_read(path)))


if __name__ == '__main__':
  app.run(main)
