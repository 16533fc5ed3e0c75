"""Draws a run's learning curves from its metrics.jsonl, as a PNG.

python -m scripts.learning_curves --workdir=runs/digits
"""

import os

from absl import app, flags
import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt

from experiments.telemetry import METRICS, read_metrics
from scripts import command

FILE = 'learning_curves.png'
SPLIT_STYLES = {'train': {'alpha': 0.5, 'linewidth': 1}}  # One noisy batch.


def draw(workdir: str) -> str:
  """Draws the loss and every metric, by step and split.

  Args:
    workdir: of a run that has a metrics.jsonl.

  Returns:
    The path of the PNG in the workdir.

  Raises:
    ValueError: if nothing was recorded yet.
  """
  records = read_metrics(workdir)
  splits = list(dict.fromkeys(r['split'] for r in records))
  if 'train' not in splits:
    raise ValueError(f'{workdir}/{METRICS} has no training step yet.')
  evaluated = [s for s in splits if s != 'train']
  # Train-only figures, such as the learning rate, stay out.
  shown = [r for r in records if r['split'] in (evaluated or splits)]
  names = [n for n in shown[0] if n not in ('step', 'split', 'count')]
  figure, axes = plt.subplots(
    1, len(names), figsize=(5 * len(names), 3.5), squeeze=False
  )
  for axis, name in zip(axes[0], names, strict=True):
    for split in splits:
      points = [
        (r['step'], r[name])
        for r in records
        if r['split'] == split and name in r
      ]
      steps, values = zip(*points, strict=True)
      style = SPLIT_STYLES.get(split, {'marker': '.'})
      axis.plot(steps, values, label=split, **style)
    axis.set(xlabel='step', title=name)
    axis.grid(alpha=0.3)
    axis.legend()
  figure.tight_layout()
  path = os.path.join(workdir, FILE)
  figure.savefig(path, dpi=120)
  plt.close(figure)
  return path


def main(argv: list[str]) -> None:
  del argv
  with command.running():
    print(draw(_WORKDIR.value))


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
  app.run(main)
