"""Runs of sweeps, and what stands in for their training."""

import json

import numpy as np

from experiments import benchmarks, experiment, history, telemetry
from scripts.sweep import plan, runner, training

NUM_TEST = 10_000
DEVICES = [training.Device(''), training.Device('gpu:1')]
# Stands in for a training: writes the files that it is given, or fails.
TRAINING = """
import json, pathlib, sys
workdir, files, status = sys.argv[1:]
print('Loss is not finite.')
for name, content in json.loads(files).items():
  (pathlib.Path(workdir) / name).write_text(content)
sys.exit(int(status))
"""


def accuracy(run):
  """Scores on the held-out and the test set; a rate of 0.003 is best."""
  loss = 0.1 + 10 * abs(run.learning_rate - 0.003) + 0.01 * run.seed
  return 1 - loss - 0.02, 1 - loss


def files_of(run):
  """The files that a training of the run leaves, by their names."""
  config = run.config()
  task = benchmarks.create(**config.task)
  end = experiment.total_steps(config, task)
  lines = [
    {'step': step, 'split': 'train', 'top1': step / end, 'time': 60.0 + step}
    for step in range(1, end + 1)
  ]
  lines += [
    {
      'step': end,
      'split': split,
      'top1': value,
      'count': NUM_TEST,
      'time': 99.0,
    }
    for split, value in zip(task.eval_splits, accuracy(run), strict=True)
  ]
  launch = {
    'time': history.iso(50.0),
    'commit': 'facade' if run.is_trial else 'c0ffee',
    'devices': ['cpu'],
  }
  return {
    telemetry.CONFIG: json.dumps(config.to_dict(), default=str),
    telemetry.LAUNCHES: json.dumps(launch) + '\n',
    telemetry.METRICS: ''.join(json.dumps(line) + '\n' for line in lines),
  }


def write_predictions(run, folder):
  """Writes what a training of the run leaves of the test examples."""
  correct = np.arange(NUM_TEST) < round(NUM_TEST * accuracy(run)[1])
  np.savez(
    folder / 'predictions_test.npz',
    step=experiment.total_steps(run.config(), run.task()),
    record=np.arange(NUM_TEST),
    loss=np.where(correct, 0.5, 2.0),
    classes=np.where(correct, 3, 4)[:, None],
    label=np.full(NUM_TEST, 3),
  )


def write(files, folder):
  for name, content in files.items():
    (folder / name).write_text(content)


def table2(*names, num_steps=20):
  return plan.select(['fashion_mnist'], names, {'train.steps': num_steps})


def train(variants, root, devices=DEVICES, say=print):
  """Trains the runs that are left, and returns the sweep."""
  sweep = runner.Runner(variants, str(root), devices, say)
  sweep.run()
  return sweep
