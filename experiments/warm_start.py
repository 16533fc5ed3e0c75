"""Training that starts from the weights of an export (`train.init_from`)."""

from collections.abc import Mapping, Sequence
import dataclasses
import logging
from typing import Any

import jax
import numpy as np

from experiments.experiment import Experiment
from perceiver import exports
from perceiver.importers import hub

log = logging.getLogger(__name__)

HEAD = 'perceiver/head/'  # The classifier: fresh if the classes differ.


def read(experiment: Experiment) -> dict[str, np.ndarray]:
  """Reads parameters by 'module/name' from the weights in `train.init_from`.

  All others start fresh. `perceiver.exports.read` says what the weights may be.
  If they are on a hub, every process downloads them, unless another one on its
  machine has done so.

  Raises:
    FileNotFoundError, PermissionError: as `hub.find`; or a file is missing.
    ValueError: if they are damaged, or of a model that does not fit.
  """
  source = experiment.config.train.init_from
  folder = hub.find(source)
  config, tensors = exports.read(folder)
  shapes = {
    name: x.shape
    for name, x in exports.as_tensors(experiment.state_shapes.params).items()
  }
  fresh = set()
  if not _are_the_same(config['classes'], experiment.class_names):
    fresh = {x for x in tensors.keys() | shapes if x.startswith(HEAD)}
  wrong = [
    f'{name} {np.shape(tensors[name]) if name in tensors else "missing"},'
    f' here {shapes.get(name, "unknown")}'
    for name in sorted(tensors.keys() | shapes)
    if name not in fresh
    and (name not in tensors or tensors[name].shape != shapes.get(name))
  ]
  if wrong:
    raise ValueError(
      f'train.init_from={source!r} does not fit the model: {len(wrong)} tensors'
      f' differ, such as {wrong[0]}.'
    )
  loaded = {x: tensor for x, tensor in tensors.items() if x not in fresh}
  log.info(
    'Starting from %s: %d tensors; fresh: %s.',
    folder,
    len(loaded),
    ', '.join(sorted(fresh & shapes.keys())) or 'none',
  )
  for line in _differences(experiment, config):
    log.warning('%s: %s', folder, line)
  return loaded


def put(params: Any, weights: dict[str, np.ndarray]) -> Any:
  """Replaces parameters by weights of their names, on the same devices."""
  flat = exports.as_tensors(params)
  for name, tensor in weights.items():
    # Each process has all of it, and puts what its devices hold.
    flat[name] = jax.make_array_from_callback(
      tensor.shape, flat[name].sharding, tensor.__getitem__
    )
  return exports.as_params(flat)


def _are_the_same(theirs: Sequence[str], ours: Sequence[str]) -> bool:
  """Whether two lists name the same classes: at least half of the names agree.

  Only first synonyms are compared: ImageNet has 'tench, Tinca tinca' in one
  place and 'tench' in another.
  """
  first = lambda name: name.partition(',')[0].casefold()
  pairs = zip(theirs, ours, strict=False)
  same = sum(first(x) == first(y) for x, y in pairs)
  return len(theirs) == len(ours) and 2 * same >= len(ours)


def _differences(experiment: Experiment, config: dict[str, Any]) -> list[str]:
  """Settings without tensors that differ from those of the weights."""
  inputs = {
    name: dataclasses.asdict(modality)
    for name, modality in experiment.task.modalities.items()
  }
  ours = _settings(experiment.config.model, inputs)
  theirs = _settings(config['model'], config['input'])
  return [
    f'trained with {key}={_plain(theirs[key])}, here {_plain(ours[key])}.'
    for key in sorted(ours.keys() & theirs.keys())
    if key != 'model.num_classes' and _plain(ours[key]) != _plain(theirs[key])
  ]


def _settings(
  model: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
  return {
    f'{section}.{key}': value
    for section, values in {'model': model, **inputs}.items()
    for key, value in values.items()
  }


def _plain(value: Any) -> Any:
  """Converts tuples to lists, which JSON has."""
  return list(map(_plain, value)) if isinstance(value, tuple | list) else value
