"""Trained models from folders: weights in, a classifier out."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from perceiver import exports, modalities
from perceiver.inputs import ByteArray
from perceiver.modalities import Modality
from perceiver.model import Perceiver
from perceiver.ops import cross_attention
from perceiver.ops.cross_attention import InputQueries
from perceiver.weight_files import PathLike

Inputs = jax.typing.ArrayLike | Mapping[str, jax.typing.ArrayLike]


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A trained model and its input.

  Inputs are one array [B, …], or several by the source of their modalities:
  'image' [B, H, W, channels], 'points' [B, M, 3], 'video' [B, T, H, W, 3],
  'audio' [B, S]. Of several, those that are left out count as absent. Numbers
  are as people have them: pixels from 0 to 255 (the digits' from 0 to 16),
  points anywhere, samples of 16 bits; with `normalized` as the network sees
  them, see `modalities`. Numbers that cannot be those are refused, see
  `Modality.check`. A batch may be empty.
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
      ValueError: for arrays of other shapes or numbers, or none.
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
      if not isinstance(array, jax.Array):
        array = np.asarray(array)
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
  config, tensors = exports.read(folder)
  choices = {
    'attention': attention,
    'attention_tile': attention_tile,
    'attention_kernel': attention_kernel,
    'mesh': mesh,
  }
  if compute_dtype is not None:
    choices['compute_dtype'] = jnp.dtype(compute_dtype).name
  inputs = exports.read_modalities(config)
  functions = {
    name: _compile(name, config['model'] | choices, inputs, mesh)
    for name in _OUTPUTS
  }
  params = exports.as_params(tensors)
  placement = None
  if mesh is not None:
    placement = NamedSharding(mesh, PartitionSpec())
  return Pretrained(
    config, jax.device_put(params, placement), inputs, functions
  )


_OUTPUTS: dict[str, Callable[[Perceiver, ByteArray], Any]] = {
  'logits': lambda model, inputs: model(inputs),
  'latents': lambda model, inputs: model.encode(inputs),
  'queries': lambda model, inputs: model.attention_queries(inputs),
  'byte_array': lambda model, inputs: inputs,
}


def _compile(
  name: str,
  model: Mapping[str, Any],
  inputs: Mapping[str, Modality],
  mesh: Mesh | None,
) -> Callable[..., Any]:
  """What gives one of `_OUTPUTS`, of (params, batch, normalized)."""

  def forward(batch: Mapping[str, Any], normalized: bool) -> Any:
    array = modalities.byte_array(
      inputs, batch, normalized=normalized, mesh=mesh
    )
    return _OUTPUTS[name](Perceiver(**model), array)

  apply = hk.transform(forward).apply
  return jax.jit(
    lambda params, *arguments: apply(params, None, *arguments), static_argnums=2
  )
