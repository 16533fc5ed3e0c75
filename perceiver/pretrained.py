"""Trained models from folders: weights in, a classifier out.

A folder holds model.safetensors, the parameters by their paths in Haiku, and
config.json, which says the model and its input:

  format      'perceiver-haiku', and which version of it
  model       the arguments of `Perceiver`
  input       the modalities by name, see `modalities.from_json`
  classes     what people call them
  scores      'softmax', or 'sigmoid' where an example has several labels

Folders of transformers' PerceiverForImageClassification… are read as well, see
`perceiver.huggingface`.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from perceiver import huggingface, modalities, weight_files
from perceiver.inputs import ByteArray
from perceiver.modalities import Modality
from perceiver.model import Perceiver
from perceiver.ops import cross_attention
from perceiver.ops.cross_attention import InputQueries
from perceiver.weight_files import PathLike, WeightsError

FORMAT = {'format': 'perceiver-haiku', 'version': 1}
KEYS = {*FORMAT, 'model', 'input', 'classes', 'scores'}
SCORES = ('softmax', 'sigmoid')
# How to compute, not what: for whoever loads a model to choose.
CHOICES = ('attention', 'attention_tile', 'attention_kernel', 'remat')
# Self-attends times cross-attends: a lying file is not to take hours.
MAX_LAYERS = 1 << 16

Inputs = jax.typing.ArrayLike | Mapping[str, jax.typing.ArrayLike]


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A trained model and its input.

  Inputs are one array [B, …], or several by the source of their modalities:
  'image' [B, H, W, channels], 'points' [B, M, 3], 'video' [B, T, H, W, 3],
  'audio' [B, S]. Of several, those that are left out count as absent. Numbers
  are as people have them: pixels from 0 to 255 (the digits' from 0 to 16),
  points anywhere, samples of 16 bits; with `normalized` as the network sees
  them, see `modalities`.
  """

  config: Mapping[str, Any]  # As of config.json.
  params: Mapping[str, Mapping[str, jax.Array]]  # Haiku's, float32.
  modalities: Mapping[str, Modality]  # By name.
  # By name, (params, prepared batch, normalized) -> result; compiled.
  functions: Mapping[str, Callable[..., Any]]

  @property
  def class_names(self) -> Sequence[str]:
    return self.config['classes']

  def __call__(self, inputs: Inputs, *, normalized: bool = False) -> jax.Array:
    """Returns the logits, [B, classes] float32.

    Raises:
      ValueError: for arrays of other shapes, or none.
    """
    return self._apply('logits', inputs, normalized)

  def byte_array(
    self, inputs: Inputs, *, normalized: bool = False
  ) -> ByteArray:
    """Returns what the Perceiver attends to. Raises what calling it raises."""
    return self._apply('byte_array', inputs, normalized)

  def encode(self, inputs: Inputs, *, normalized: bool = False) -> jax.Array:
    """Returns the last latents [B, N, D]. Raises what calling it raises."""
    return self._apply('latents', inputs, normalized)

  def attention_queries(
    self, inputs: Inputs, *, normalized: bool = False
  ) -> list[InputQueries]:
    """Returns what `attention_maps` takes, beside `byte_array`, for each
    cross-attend. Raises what calling it raises."""
    return self._apply('queries', inputs, normalized)

  def _apply(self, name: str, inputs: Inputs, normalized: bool) -> Any:
    batch = self._prepare(inputs, normalized)
    return self.functions[name](self.params, batch, normalized)

  def _prepare(self, inputs: Inputs, normalized: bool) -> dict[str, Any]:
    by_source = {x.source: x for x in self.modalities.values()}
    if not isinstance(inputs, Mapping):
      if len(by_source) > 1:
        raise ValueError(f'Inputs must be by name: {sorted(by_source)}.')
      inputs = {next(iter(by_source)): inputs}
    if not inputs or not inputs.keys() <= by_source.keys():
      raise ValueError(
        f'Inputs {sorted(inputs)} are not some of {sorted(by_source)}.'
      )
    batch = {}
    for source, array in inputs.items():
      modality = by_source[source]
      modality.check(array, normalized)
      batch[source] = modality.prepare(array, normalized)
    sizes = {len(x) for x in batch.values()}
    if len(sizes) > 1:
      raise ValueError(f'Inputs of different batch sizes {sorted(sizes)}.')
    (size,) = sizes
    for source in by_source.keys() - inputs.keys():
      spec = by_source[source].prepared
      batch[source] = np.zeros((size, *spec.shape), spec.dtype)
      batch[f'has_{source}'] = np.zeros(size, bool)
    return batch


def from_pretrained(
  folder: PathLike,
  *,
  attention: str = 'auto',
  attention_tile: int | None = None,
  attention_kernel: bool = True,
  compute_dtype: str | None = None,
  mesh: Mesh | None = None,
) -> Pretrained:
  """Loads a trained model.

  Args:
    folder: as `scripts.export` writes it, or as transformers has it.
    attention: the form of cross-attention, as of `Perceiver`.
    attention_tile: likewise.
    attention_kernel: likewise.
    compute_dtype: likewise; None: as the model was trained.
    mesh: likewise.

  Returns:
    The model.

  Raises:
    FileNotFoundError: if there is no such folder, or a file is missing in it.
    weight_files.WeightsError: if its files are damaged, do not fit each other,
      or are of a model that this library has not.
    ValueError: for an unknown form of attention.
    TypeError: for an unknown dtype.
  """
  if attention not in ('auto', *cross_attention.FORMS):
    raise ValueError(
      f'attention={attention!r} is none of {("auto", *cross_attention.FORMS)}.'
    )
  config, tensors = read(folder)
  choices = {
    'attention': attention,
    'attention_tile': attention_tile,
    'attention_kernel': attention_kernel,
    'mesh': mesh,
  }
  if compute_dtype is not None:
    choices['compute_dtype'] = jnp.dtype(compute_dtype).name
  inputs = read_modalities(config)
  functions = {
    name: _compile(name, config['model'] | choices, inputs, mesh)
    for name in _OUTPUTS
  }
  params = as_params(tensors)
  placement = None
  if mesh is not None:
    placement = NamedSharding(mesh, PartitionSpec())
  return Pretrained(
    config, jax.device_put(params, placement), inputs, functions
  )


def read(
  folder: PathLike,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """A folder's config and tensors, checked against each other.

  Raises:
    FileNotFoundError: if there is no such folder, or a file is missing in it.
    weight_files.WeightsError: as `from_pretrained`.
  """
  config = weight_files.read_json(folder)
  names: dict[str, str] = {}  # As the file has them, where they differ.
  convert = None
  if config.get('model_type') == huggingface.MODEL_TYPE:
    config, convert = huggingface.read_config(folder, config)
    config = FORMAT | config
  _check_config(folder, config)
  tensors = weight_files.read_tensors(folder)
  if convert is not None:
    tensors, names = convert(tensors)
  _check_tensors(folder, _shapes(folder, config), tensors, names)
  return config, tensors


def write(
  folder: PathLike,
  config: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  **rest: Any,
) -> None:
  """Writes what `read` reads.

  Args:
    folder: that does not exist yet, or is empty.
    config: its keys but for those of `FORMAT`.
    tensors: by name.
    **rest: as of `weight_files.write`.

  Raises:
    FileExistsError: if there is something already.
    weight_files.WeightsError: if the two do not fit each other.
  """
  config = FORMAT | dict(config)
  _check_config(folder, config)
  _check_tensors(folder, _shapes(folder, config), tensors, {})
  weight_files.write(folder, config, tensors, **rest)


def as_params(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Haiku's tree of parameters; 'module/name' has `name` of the module."""
  params: dict[str, dict[str, Any]] = {}
  for path, tensor in tensors.items():
    module, _, name = path.rpartition('/')
    params.setdefault(module, {})[name] = tensor
  return params


def as_tensors(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """The inverse of `as_params`."""
  return {
    f'{module}/{name}': value
    for module, values in params.items()
    for name, value in values.items()
  }


def read_modalities(config: Mapping[str, Any]) -> dict[str, Modality]:
  """Raises ValueError if a config's input is none."""
  inputs = config['input']
  if not isinstance(inputs, dict) or not inputs:
    raise ValueError("'input' must name at least one modality.")
  return {name: modalities.from_json(x) for name, x in inputs.items()}


_OUTPUTS: dict[str, Callable[[Perceiver, ByteArray], Any]] = {
  'logits': lambda model, inputs: model(inputs),
  'latents': lambda model, inputs: model.encode(inputs),
  'queries': lambda model, inputs: model.attention_queries(inputs),
  'byte_array': lambda model, inputs: inputs,
}


def _transform(
  name: str,
  model: Mapping[str, Any],
  inputs: Mapping[str, Modality],
  mesh: Mesh | None,
) -> hk.Transformed:
  """What gives one of `_OUTPUTS`, of (batch, normalized)."""

  def forward(batch: Mapping[str, Any], normalized: bool) -> Any:
    array = modalities.byte_array(
      inputs, batch, normalized=normalized, mesh=mesh
    )
    return _OUTPUTS[name](Perceiver(**model), array)

  return hk.transform(forward)


def _compile(name: str, *rest: Any) -> Callable[..., Any]:
  apply = _transform(name, *rest).apply

  @functools.partial(jax.jit, static_argnums=2)
  def function(params: Any, batch: Any, normalized: bool) -> Any:
    return apply(params, None, batch, normalized)

  return function


def _check_config(folder: PathLike, config: Mapping[str, Any]) -> None:
  """Raises WeightsError for no config; what is in `model` is not looked at."""
  where = f'{folder}/{weight_files.CONFIG}'
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
    raise WeightsError(f"{where}: 'model' or 'classes' are of another type.")
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
      raise WeightsError(f'{where}: model.num_{key}={count!r} is no integer.')
    layers *= max(count, 1)
  if layers > MAX_LAYERS:
    raise WeightsError(f'{where}: a model of {layers} layers is too deep.')
  chosen = sorted(model.keys() & {*CHOICES, 'mesh', 'name'})
  if chosen:
    raise WeightsError(f'{where}: unknown keys {chosen} of the model.')


def _shapes(folder: PathLike, config: Mapping[str, Any]) -> dict[str, Any]:
  """Of the tensors that a config asks for. Allocates nothing."""
  try:
    inputs = read_modalities(config)
    transformed = _transform('logits', config['model'], inputs, None)
    batch = {
      x.source: jax.ShapeDtypeStruct((1, *x.prepared.shape), x.prepared.dtype)
      for x in inputs.values()
    }
    init = lambda key, batch: transformed.init(key, batch, False)
    return as_tensors(jax.eval_shape(init, jax.random.key(0), batch))
  except (ValueError, TypeError, OverflowError) as error:
    raise WeightsError(f'{folder}/{weight_files.CONFIG}: {error}') from error


def _check_tensors(
  folder: PathLike,
  expected: Mapping[str, Any],
  tensors: Mapping[str, Any],
  names: Mapping[str, str],
) -> None:
  """Raises WeightsError if they are not those that are expected."""
  where = f'{folder}/{weight_files.TENSORS}'
  missing = sorted(names.get(x, x) for x in expected.keys() - tensors.keys())
  extra = sorted(names.get(x, x) for x in tensors.keys() - expected.keys())
  if missing or extra:
    raise WeightsError(
      f'{where} does not fit its config: missing tensors {_some(missing)},'
      f' unknown tensors {_some(extra)}.'
    )
  for name, spec in expected.items():
    shape = np.shape(tensors[name])
    if shape != spec.shape:
      raise WeightsError(
        f'{where}: {names.get(name, name)!r} gives the shape {shape}; the'
        f' config asks for {spec.shape}.'
      )


def _some(names: Sequence[str]) -> str:
  more = ', …' if len(names) > 5 else ''
  return f'[{", ".join(names[:5])}{more}]'
