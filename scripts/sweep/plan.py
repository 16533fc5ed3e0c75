"""The runs of a sweep, and the directory of each."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib
import math
import pathlib
from typing import Any

from ml_collections import ConfigDict

from experiments import benchmarks, experiment, saved, telemetry
from experiments.task import Task

HELD_OUT = 'validation'  # The split that picks the learning rate.
_PLACES = {'data.dir', 'train.compilation_cache'}  # Where files are.


@dataclasses.dataclass(frozen=True)
class Variant:
  """A variant of a config, and the runs that it needs."""

  config_name: str  # NAME of configs/NAME.py.
  name: str
  learning_rates: tuple[float, ...]  # To try; the best one is picked.
  num_seeds: int  # Runs with the picked learning rate.
  trial_fraction: float = 1.0  # The length of a trial, as one of a run's.
  rate_of: str | None = None  # Another variant, whose trials pick its rate.
  settings: tuple[tuple[str, Any], ...] = ()  # Keys that all runs change.

  @property
  def title(self) -> str:
    return f'{self.config_name}:{self.name}'

  def trials(self) -> list['Run']:
    """A short run for each learning rate; none if there is nothing to pick.

    Variants that take their rate from one another have equal trials.
    """
    if len(self.learning_rates) == 1:
      return []
    name = self.rate_of or self.name
    tried = dataclasses.replace(self, name=name, rate_of=None, num_seeds=1)
    return [Run(tried, x, seed=0, is_trial=True) for x in self.learning_rates]

  def runs(self, learning_rate: float) -> list['Run']:
    """The runs with a learning rate, one for each seed."""
    return [Run(self, learning_rate, seed) for seed in range(self.num_seeds)]


@dataclasses.dataclass(frozen=True)
class Run:
  """One training."""

  variant: Variant
  learning_rate: float
  seed: int
  is_trial: bool = False

  @property
  def title(self) -> str:
    what = 'trial' if self.is_trial else f'seed {self.seed}'
    return f'{self.variant.title}, learning rate {self.learning_rate:g}, {what}'

  @property
  def length(self) -> float:
    """Its steps, as a part of a whole run's."""
    return self.variant.trial_fraction if self.is_trial else 1.0

  def workdir(self, root: str) -> str:
    folder = pathlib.Path(root, self.variant.config_name)
    what = 'trial' if self.is_trial else f'seed_{self.seed}'
    leaf = f'learning_rate_{self.learning_rate:g}_{what}'
    return str(folder / (self.variant.name or 'default') / leaf)

  def settings(self) -> dict[str, Any]:
    """Keys that the run changes in its variant's config."""
    settings = {
      **dict(self.variant.settings),
      'optimizer.learning_rate': self.learning_rate,
      'seed': self.seed,
    }
    if self.is_trial:
      whole = self._config(settings)
      total = experiment.total_steps(whole, benchmarks.create(**whole.task))
      settings['train.steps'] = math.ceil(self.variant.trial_fraction * total)
    return settings

  def config(self) -> ConfigDict:
    return self._config(self.settings())

  def _config(self, settings: Mapping[str, Any]) -> ConfigDict:
    module = importlib.import_module(f'configs.{self.variant.config_name}')
    config = module.get_config(self.variant.name)
    config.update_from_flattened_dict(settings)
    return config

  def task(self) -> Task:
    return benchmarks.create(**self.config().task)

  def evaluations(self, root: str) -> dict[str, dict[str, Any]] | None:
    """Returns the metrics of each split at the end; None before the end."""
    workdir = self.workdir(root)
    if not (pathlib.Path(workdir) / telemetry.METRICS).exists():
      return None
    task = self.task()
    end = experiment.total_steps(self.config(), task)
    found = {
      r['split']: r
      for r in telemetry.read_metrics(workdir)
      if r['step'] == end and r['split'] != 'train'
    }
    return found if set(task.eval_splits) <= found.keys() else None

  def check(self, root: str) -> None:
    """Raises ValueError if the directory has a run of another config."""
    workdir = self.workdir(root)
    if not (pathlib.Path(workdir) / telemetry.CONFIG).exists():
      return
    there = saved.flat(saved.read_config(workdir).to_dict())
    here = saved.flat(self.config().to_dict())
    # A key that one of them lacks is of another version.
    for key in sorted(there.keys() & here.keys() - _PLACES):
      if str(there[key]) != str(here[key]):
        raise ValueError(
          f'{workdir} has a run with {key}={there[key]}, which now is'
          f' {here[key]}: take another --workdir, or remove it.'
        )


def select(
  config_names: Sequence[str],
  names: Sequence[str],
  settings: Mapping[str, Any],
) -> list[Variant]:
  """Returns the variants to train.

  Args:
    config_names: each NAME of configs/NAME.py.
    names: of sweeps in a config's SWEEPS, or of variants; none: all sweeps.
    settings: keys that all runs change, as {'section.key': value}.

  Returns:
    Each variant once, in the order of the sweeps.

  Raises:
    ValueError: if a config does not exist or lacks a key, or no config has a
      name.
  """
  variants: dict[tuple[str, str], Variant] = {}
  known: dict[str, None] = {}
  unknown = set(names)
  for config_name in config_names:
    module = _module(config_name)
    sweeps = getattr(module, 'SWEEPS', {})
    known |= dict.fromkeys(sweeps)
    for name in names or sweeps:
      if name not in sweeps and name not in module.VARIANTS:
        continue
      unknown.discard(name)
      for variant in sweeps.get(name, (name,)):
        key = (config_name, variant)
        if key not in variants:  # Two sweeps may share it.
          variants[key] = _variant(module, *key, settings)
  if unknown:
    raise ValueError(
      f'--variants: no config has {", ".join(sorted(unknown))}; the sweeps are'
      f' {", ".join(known) or "none"}.'
    )
  return list(variants.values())


def _module(config_name: str) -> Any:
  if not config_name.isidentifier():
    raise ValueError(
      f'--config: {config_name!r} does not name a config: give'
      ' configs/NAME.py, and its variants with --variants.'
    )
  try:
    return importlib.import_module(f'configs.{config_name}')
  except ImportError as error:
    raise ValueError(f'--config: {error}') from error


def _variant(
  module: Any,
  config_name: str,
  name: str,
  settings: Mapping[str, Any],
) -> Variant:
  if 'seed' in settings:
    raise ValueError(
      '--set=seed: NUM_SEEDS of the config sets the seeds, from 0 on.'
    )
  config = module.get_config(name)
  try:
    config.update_from_flattened_dict(settings)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f'--set: {config_name}:{name}: {error}') from error
  task = benchmarks.create(**config.task)
  rates = (config.optimizer.learning_rate,)
  is_given = 'optimizer.learning_rate' in settings
  if not is_given and HELD_OUT in task.eval_splits:
    rates = getattr(module, 'LEARNING_RATES', rates)
  return Variant(
    config_name,
    name,
    rates,
    num_seeds=getattr(module, 'NUM_SEEDS', {}).get(name, 1),
    rate_of=getattr(module, 'RATE_OF', {}).get(name),
    trial_fraction=getattr(module, 'TRIAL_FRACTION', 1.0),
    settings=tuple(settings.items()),
  )


def best(variant: Variant, root: str) -> float | None:
  """Picks the learning rate by held-out examples; None if no trial ended."""
  if not variant.trials():
    return variant.learning_rates[0]
  scores = {}
  for run in variant.trials():
    evaluations = run.evaluations(root)
    if evaluations is not None:
      metric = run.task().best_metric
      scores[run.learning_rate] = evaluations[HELD_OUT][metric]
  return max(scores, key=lambda rate: scores[rate]) if scores else None
