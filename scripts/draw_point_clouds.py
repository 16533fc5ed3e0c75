"""Draws test shapes with their true and predicted classes, as a PNG.

  python -m scripts.draw_point_clouds --config=configs/modelnet40.py:solids \
      --workdir=runs/solids

The checkpoint is the one that `eval.checkpoint` of the config says.
"""

import os

from absl import app, flags
import jax
import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from ml_collections import config_flags
import numpy as np

from experiments import experiment, saved
from experiments.benchmarks.modelnet40.task import ModelNet40
from scripts import command

FILE = 'point_clouds.png'
COLUMNS = 6
SEED = 0  # Of the choice of shapes.


def draw(run: experiment.Experiment, workdir: str, num_shapes: int) -> str:
  """Draws shapes of the test split, drawn at random.

  Args:
    run: of the ModelNet40 task.
    workdir: of a trained run.
    num_shapes: how many to draw, at most.

  Returns:
    The path of the PNG in the workdir.

  Raises:
    ValueError: if the task has no point clouds.
    errors.DataNotFoundError: if they are not prepared.
    FileNotFoundError: if the workdir has no intact checkpoint.
  """
  task = run.task
  if not isinstance(task, ModelNet40):
    raise ValueError(f'The task {run.config.task.name!r} has no point clouds.')
  source = run.source('test')
  state = saved.restore(run, workdir)
  order = np.random.default_rng(SEED).permutation(len(source))[:num_shapes]
  examples = [task.eval_example(source[int(i)]) for i in order]
  batch = {
    name: np.stack([example[name] for example in examples])
    for name in examples[0]
  }

  def classify(params, model_state, batch):
    return run.forward.apply(params, model_state, None, batch, False)[0]

  logits = jax.jit(classify)(state.params, state.model_state, batch)
  figure = _figure(task, batch, np.argmax(logits, axis=-1))
  path = os.path.join(workdir, FILE)
  figure.savefig(path, dpi=100)
  plt.close(figure)
  return path


def _figure(
  task: ModelNet40, batch: dict[str, np.ndarray], predicted: np.ndarray
) -> plt.Figure:
  rows = -(-len(predicted) // COLUMNS)
  figure, axes = plt.subplots(
    rows,
    COLUMNS,
    figsize=(2.4 * COLUMNS, 2.6 * rows),
    squeeze=False,
    subplot_kw={'projection': '3d'},
  )
  for axis in axes.flat:
    axis.set_axis_off()
  for axis, points, label, guess in zip(
    axes.flat, batch['points'], batch['label'], predicted, strict=False
  ):
    # matplotlib's third axis is the vertical one.
    x, y, z = np.roll(points, 2 - task.vertical_axis, axis=1).T
    axis.scatter(x, y, z, c=z, s=1, cmap='viridis')
    axis.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axis.set_box_aspect((1, 1, 1), zoom=1.4)
    true, seen = task.categories[label], task.categories[guess]
    if true == seen:
      axis.set_title(true, fontsize=9)
    else:
      axis.set_title(f'{seen} (is: {true})', fontsize=9, color='red')
  figure.tight_layout()
  return figure


def main(argv: list[str]) -> None:
  del argv
  with command.running():
    run = experiment.create(_CONFIG.value)
    print(draw(run, _WORKDIR.value, _NUM_SHAPES.value))


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', 'configs/modelnet40.py', 'Of the run.'
  )
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
  _NUM_SHAPES = flags.DEFINE_integer(
    'num_shapes', 24, 'To draw.', lower_bound=1
  )
  app.run(main)
