"""Runs whose scores stand beside the paper's rows."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from experiments import benchmarks, config_effects, experiment, saved, telemetry
from perceiver.effects import Effect
from scripts.paper.rows import METRICS


@dataclasses.dataclass(frozen=True)
class Run:
  """The config and the evaluations in a run's directory."""

  workdir: str
  config: ConfigDict
  evaluations: list[dict[str, Any]]  # In order of the steps.

  def is_of(self, config: ConfigDict) -> bool:
    """Returns whether the run trained a config's model on its task."""
    return _identity(self.config) == _identity(config)

  def figure(self, quantity: str) -> tuple[float, str]:
    """Returns the value of one of `METRICS`, and a note on its source."""
    name = METRICS[quantity]
    chosen, note = self.evaluations[-1], ''
    if quantity.startswith('best'):
      score = lambda evaluation: evaluation[name]
      tests = {e['step']: e for e in self.evaluations if e['split'] == 'test'}
      chosen = max(tests.values(), key=score, default=chosen)
      held_out = [
        e
        for e in self.evaluations
        if e['split'] == 'validation' and e['step'] in tests
      ]
      if held_out:
        picked = tests[max(held_out, key=score)['step']]
        note = f'; {100 * picked[name]:.1f} where the validation split picks'
    task = benchmarks.create(**self.config.task)
    total = experiment.total_steps(self.config, task)
    note = f'{self.workdir}, step {chosen["step"]} of {total}{note}'
    return chosen.get(name, float('nan')), note


def read_run(workdir: str) -> Run:
  """Reads a run.

  Raises:
    ValueError: if `workdir` is not a run's, or the run was never evaluated.
  """
  try:
    config = saved.read_config(workdir)
  except FileNotFoundError as error:
    raise ValueError(f'--runs: {error}') from error
  evaluations = [
    r for r in telemetry.read_metrics(workdir) if r['split'] != 'train'
  ]
  if not evaluations:
    raise ValueError(f'--runs: {workdir} has no evaluation yet.')
  return Run(workdir, config, evaluations)


def _identity(config: ConfigDict) -> dict[str, Any]:
  """Returns the settings that tell models and tasks apart, by key.

  A key that a config lacks, as those of older runs do, has its default.
  """
  # A held-out part makes no other benchmark: the test set stays the same.
  ignored = {'task.validation_fraction'}
  if config['task']['name'] == 'audioset':
    # Clips vanish from the web, so everyone has another number of them.
    ignored |= {'task.num_train', 'task.num_eval'}
  settings = config_effects.defaults(config)
  for section in ('task', 'model'):
    settings |= {f'{section}.{k}': x for k, x in config[section].items()}
  return {
    key: x
    for key, x in settings.items()
    if key not in ignored
    and config_effects.effect(key, config) != Effect.COMPUTATION
  }
