"""Exported models: a config, and the tensors that it asks for.

A folder has model.safetensors, the parameters by their paths in Haiku, and
config.json, which describes the model and its input:

  format      'perceiver-haiku'
  version     the version of this format
  model       the arguments of `Perceiver`
  input       the modalities by name, see `modalities.from_json`
  classes     their names
  scores      'softmax', 'sigmoid' if an example may have several labels, or
              'none' for a regression: the outputs are no scores of classes

Folders of transformers' PerceiverForImageClassification… are read as well, and
the authors' files: see `perceiver.importers`.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import shutil
import tempfile
from typing import Any

import haiku as hk
import jax
import numpy as np
import safetensors.numpy

from perceiver import effects, modalities, weight_files
from perceiver.effects import Effect
from perceiver.importers import hub, huggingface, released
from perceiver.modalities import Modality
from perceiver.model import Perceiver
from perceiver.weight_files import DTYPES, PathLike, WeightsError

FORMAT = {'format': 'perceiver-haiku', 'version': 1}
KEYS = {*FORMAT, 'model', 'input', 'classes', 'scores'}
SCORES = ('softmax', 'sigmoid', 'none')
# Arguments of `Perceiver` that the caller chooses, so that no config has them:
# they say how to compute. The dtype stays in the config, as it was in training.
CHOICES = {'mesh', 'name'} | {
  name
  for name, effect in effects.of_fields(Perceiver).items()
  if effect == Effect.COMPUTATION and name != 'compute_dtype'
}
# Self-attends times cross-attends. More could take hours to refuse.
MAX_LAYERS = 1 << 16


def read(
  source: PathLike, revision: str | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Reads a model's config and tensors, and checks that they fit.

  Args:
    source: a folder, the name of a repository or a file, as for
      `from_pretrained`.
    revision: as for `from_pretrained`.

  Raises:
    FileNotFoundError, PermissionError, ValueError: as `hub.find`; or a file is
      missing in the folder.
    weight_files.WeightsError: as `from_pretrained`.
  """
  path = pathlib.Path(hub.find(source, revision))
  if path.suffix in ('.safetensors', '.json', '.bin') and path.is_file():
    raise WeightsError(
      f'{path} is one of several files of a model; give their folder,'
      f' {path.parent}.'
    )
  if path.is_file():
    where = str(path)
    config, tensors, names = released.read(path)
    config = FORMAT | config
    _check_config(where, config)
    _check_tensors(where, _shapes(where, config), tensors, names)
    return config, tensors
  return _read_folder(path)


def _read_folder(
  folder: PathLike,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  where = f'{folder}/{weight_files.CONFIG}'
  config = weight_files.read_json(folder)
  names: dict[str, str] = {}  # Of tensors in the file, if they differ.
  convert = None
  ignored: tuple[str, ...] = ()
  if config.get('model_type') == huggingface.MODEL_TYPE:
    config, convert = huggingface.read_config(folder, config)
    config, ignored = FORMAT | config, huggingface.FORM.ignored
  _check_config(where, config)
  tensors = weight_files.read_tensors(folder, ignored)
  if convert is not None:
    tensors, names = convert(tensors)
  file = f'{folder}/{weight_files.TENSORS}'
  _check_tensors(file, _shapes(where, config), tensors, names)
  return config, tensors


def write(
  folder: PathLike,
  config: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  *,
  dtype: str = 'float32',
  files: Mapping[str, str] | None = None,
) -> None:
  """Writes a folder that `read` reads, whole or not at all.

  Args:
    folder: a folder that does not exist yet or is empty.
    config: the content of config.json, with or without the keys of `FORMAT`.
    tensors: arrays by name.
    dtype: the dtype to store them in, one of `weight_files.DTYPES`.
    files: texts of further files, by name.

  Raises:
    FileExistsError: if the folder exists and is not empty.
    ValueError: if the dtype is not one of `weight_files.DTYPES`.
    weight_files.WeightsError: if config and tensors do not fit each other.
  """
  config = FORMAT | dict(config)
  where = f'{folder}/{weight_files.CONFIG}'
  _check_config(where, config)
  file = f'{folder}/{weight_files.TENSORS}'
  _check_tensors(file, _shapes(where, config), tensors, {})
  if dtype not in DTYPES:
    raise ValueError(f'dtype={dtype!r} is none of {sorted(DTYPES)}.')
  weight_files.check_is_free(folder)
  folder = pathlib.Path(folder).absolute()
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent)
  )
  try:
    temporary.chmod(0o755)  # `mkdtemp` lets only the owner read it.
    texts = {
      weight_files.CONFIG: json.dumps(config, indent=1) + '\n',
      **(files or {}),
    }
    for name, text in texts.items():
      (temporary / name).write_text(text, encoding='utf-8')
    arrays = {
      name: np.ascontiguousarray(x, DTYPES[dtype])
      for name, x in tensors.items()
    }
    (temporary / weight_files.TENSORS).write_bytes(
      safetensors.numpy.save(arrays)
    )
    temporary.replace(folder)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def as_params(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns Haiku's tree of parameters, from tensors by 'module/name'."""
  params: dict[str, dict[str, Any]] = {}
  for path, tensor in tensors.items():
    module, _, name = path.rpartition('/')
    params.setdefault(module, {})[name] = tensor
  return params


def as_tensors(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Returns tensors by 'module/name': the inverse of `as_params`."""
  return {
    f'{module}/{name}': value
    for module, values in params.items()
    for name, value in values.items()
  }


def read_modalities(config: Mapping[str, Any]) -> dict[str, Modality]:
  """Returns a config's modalities. Raises ValueError if they are invalid."""
  inputs = config['input']
  if not isinstance(inputs, dict) or not inputs:
    raise ValueError("'input' must name at least one modality.")
  return {name: modalities.from_json(x) for name, x in inputs.items()}


def _check_config(where: str, config: Mapping[str, Any]) -> None:
  """Raises WeightsError if a config is invalid; `model` is checked later."""
  if any(config.get(key) != value for key, value in FORMAT.items()):
    raise WeightsError(
      f'{where}: format {config.get("format")!r}, version'
      f" {config.get('version')!r}; known is {FORMAT}, or transformers'"
      f" 'model_type' {huggingface.MODEL_TYPE!r}."
    )
  if config.keys() != KEYS:
    raise WeightsError(
      f'{where}: missing keys {sorted(KEYS - config.keys())}, unknown keys'
      f' {sorted(config.keys() - KEYS)}.'
    )
  model, classes = config['model'], config['classes']
  if not isinstance(model, dict) or not (
    isinstance(classes, list) and all(isinstance(x, str) for x in classes)
  ):
    raise WeightsError(
      f"{where}: 'model' must be an object, and 'classes' a list of strings."
    )
  if config['scores'] not in SCORES:
    raise WeightsError(f"{where}: 'scores' must be one of {SCORES}.")
  if len(classes) != model.get('num_classes'):
    raise WeightsError(
      f'{where}: {len(classes)} classes, but'
      f' model.num_classes={model.get("num_classes")!r}.'
    )
  layers = 1
  for key in ('cross_attends', 'latent_transformers', 'self_attends'):
    count = model.get(f'num_{key}', 1)
    if not isinstance(count, int):
      raise WeightsError(
        f'{where}: model.num_{key}={count!r} is not an integer.'
      )
    layers *= max(count, 1)
  if layers > MAX_LAYERS:
    raise WeightsError(f'{where}: a model of {layers} layers is too deep.')
  chosen = sorted(model.keys() & CHOICES)
  if chosen:
    raise WeightsError(f'{where}: unknown keys {chosen} of the model.')


def _shapes(where: str, config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the shapes of a config's tensors. Allocates nothing."""
  try:
    inputs = read_modalities(config)

    def logits(batch: Mapping[str, Any]) -> jax.Array:
      array = modalities.byte_array(inputs, batch)
      return Perceiver(**config['model'])(array)

    init = hk.transform(logits).init
    batch = {
      x.source: jax.ShapeDtypeStruct((1, *x.prepared.shape), x.prepared.dtype)
      for x in inputs.values()
    }
    return as_tensors(jax.eval_shape(init, jax.random.key(0), batch))
  except (ValueError, TypeError, OverflowError) as error:
    raise WeightsError(f'{where}: {error}') from error


def _check_tensors(
  where: str,
  expected: Mapping[str, Any],
  tensors: Mapping[str, Any],
  names: Mapping[str, str],
) -> None:
  """Raises WeightsError if the tensors are not the expected ones."""
  missing = sorted(names.get(x, x) for x in expected.keys() - tensors.keys())
  extra = sorted(names.get(x, x) for x in tensors.keys() - expected.keys())
  if missing or extra:
    raise WeightsError(
      f'{where} does not fit the model: missing tensors {_some(missing)},'
      f' unknown tensors {_some(extra)}.'
    )
  for name, spec in expected.items():
    shape = np.shape(tensors[name])
    if shape != spec.shape:
      raise WeightsError(
        f'{where}: {names.get(name, name)!r} gives the shape {shape}; the'
        f' model asks for {spec.shape}.'
      )


def _some(names: Sequence[str]) -> str:
  more = ', …' if len(names) > 5 else ''
  return f'[{", ".join(names[:5])}{more}]'
