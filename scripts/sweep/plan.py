"""Which runs a sweep consists of, and where each has its directory."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib
import pathlib
from typing import Any

from ml_collections import ConfigDict

from experiments import benchmarks, experiment, saved, telemetry


@dataclasses.dataclass(frozen=True)
class Variant:
  """A variant of a config, and how often it is trained."""

  config_name: str  # Of configs/NAME.py.
  name: str
  learning_rates: tuple[float, ...]  # To pick from; one: nothing to pick.
  num_seeds: int  # Runs with the learning rate that was picked.
  settings: tuple[tuple[str, Any], ...] = ()  # Keys that all runs change.

  @property
  def title(self) -> str:
    return f'{self.config_name}:{self.name}'

  @property
  def num_runs(self) -> int:
    return len(self.learning_rates) + self.num_seeds - 1

  def trials(self) -> list['Run']:
    """A run for each learning rate."""
    return [Run(self, rate, seed=0) for rate in self.learning_rates]

  def runs(self, learning_rate: float) -> list['Run']:
    """Those with that learning rate: the trial, and one for each other seed."""
    return [Run(self, learning_rate, seed) for seed in range(self.num_seeds)]


@dataclasses.dataclass(frozen=True)
class Run:
  """One training."""

  variant: Variant
  learning_rate: float
  seed: int

  @property
  def title(self) -> str:
    return (
      f'{self.variant.title}, learning rate {self.learning_rate:g},'
      f' seed {self.seed}'
    )

  def workdir(self, root: str) -> str:
    leaf = f'learning_rate_{self.learning_rate:g}_seed_{self.seed}'
    variant = self.variant
    return str(
      pathlib.Path(root)
      / variant.config_name
      / (variant.name or 'default')
      / leaf
    )

  def settings(self) -> dict[str, Any]:
    """What the run changes in its variant's config."""
    return {
      **dict(self.variant.settings),
      'optimizer.learning_rate': self.learning_rate,
      'seed': self.seed,
    }

  def config(self) -> ConfigDict:
    module = importlib.import_module(f'configs.{self.variant.config_name}')
    config = module.get_config(self.variant.name)
    config.update_from_flattened_dict(self.settings())
    return config

  def evaluations(self, root: str) -> dict[str, dict[str, Any]] | None:
    """The metrics of each split at the end; None if it has not come to that."""
    workdir, config = self.workdir(root), self.config()
    if not (pathlib.Path(workdir) / telemetry.METRICS).exists():
      return None
    task = benchmarks.create(**config.task)
    end = experiment.total_steps(config, task)
    found = {
      r['split']: r
      for r in telemetry.read_metrics(workdir)
      if r['step'] == end and r['split'] != 'train'
    }
    return found if set(task.eval_splits) <= found.keys() else None

  def check(self, root: str) -> None:
    """Raises ValueError for a directory where something else was trained."""
    workdir = self.workdir(root)
    if not (pathlib.Path(workdir) / telemetry.CONFIG).exists():
      return
    there, here = (
      {k: str(x) for k, x in saved.flat(c.to_dict()).items() if not _is_moot(k)}
      for c in (saved.read_config(workdir), self.config())
    )
    # Keys that one of them lacks are those of another version.
    for key in sorted(there.keys() & here.keys()):
      if there[key] != here[key]:
        raise ValueError(
          f'{workdir} has a run with {key}={there[key]}, which now is'
          f' {here[key]}: take another --workdir, or remove it.'
        )


def _is_moot(key: str) -> bool:
  """Of keys that say where things are, not what is trained."""
  return key in ('data.dir', 'train.compilation_cache')


def select(
  config_names: Sequence[str],
  names: Sequence[str],
  settings: Mapping[str, Any],
) -> list[Variant]:
  """What to train.

  Args:
    config_names: of configs/NAME.py.
    names: of sweeps, as a config's SWEEPS has them, or of variants; none: all
      sweeps.
    settings: keys that all runs change, as {'section.key': value}.

  Returns:
    Each variant once, in the order of the sweeps.

  Raises:
    ValueError: for a config that there is not or that lacks a key, or a name
      that no config has.
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
        if key not in variants:  # Some are of two sweeps.
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
      f'--config: {config_name!r} is no config: give configs/NAME.py, and'
      ' variants as --variants.'
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
    raise ValueError('--set=seed: the seeds are those of NUM_SEEDS, from 0 on.')
  config = module.get_config(name)
  try:
    config.update_from_flattened_dict(settings)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f'--set: {config_name}:{name}: {error}') from error
  task = benchmarks.create(**config.task)
  rates = (config.optimizer.learning_rate,)
  is_given = 'optimizer.learning_rate' in settings
  if not is_given and len(task.eval_splits) > 1:  # There is what to pick by.
    rates = getattr(module, 'LEARNING_RATES', rates)
  num_seeds = getattr(module, 'NUM_SEEDS', {}).get(name, 1)
  return Variant(config_name, name, rates, num_seeds, tuple(settings.items()))


def best(variant: Variant, root: str) -> float | None:
  """The learning rate that the held-out examples pick; None if none trained."""
  scores = {}
  for run in variant.trials():
    evaluations = run.evaluations(root)
    if evaluations is not None:
      task = benchmarks.create(**run.config().task)
      scores[run.learning_rate] = evaluations[task.eval_splits[0]][
        task.best_metric
      ]
  return max(scores, key=lambda rate: scores[rate]) if scores else None
