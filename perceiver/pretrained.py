"""Loads trained models from folders or files of weights, also from a hub."""

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
  'audio' [B, S]. If there are several, those left out count as absent. Values
  are raw: pixels from 0 to 255 (from 0 to 16 for the digits), points anywhere,
  samples of 16 bits. With `normalized` they are as the network sees them, see
  `modalities`. Impossible values are refused, see `Modality.check`. A batch
  may be empty.
  """

  config: Mapping[str, Any]  # The content of config.json.
  params: Mapping[str, Mapping[str, jax.Array]]  # Haiku's, float32.
  modalities: Mapping[str, Modality]  # By name.
  # Compiled, by name: (params, prepared batch, normalized) -> result.
  functions: Mapping[str, Callable[..., Any]]

  @property
  def class_names(self) -> Sequence[str]:
    return self.config['classes']

  def __call__(self, inputs: Inputs, *, normalized: bool = False) -> jax.Array:
    """Returns the logits, [B, classes] float32.

    Raises:
      ValueError: if arrays are missing, or have other shapes or values.
    """
    return self._apply('logits', inputs, normalized)

  def byte_array(
    self, inputs: Inputs, *, normalized: bool = False
  ) -> ByteArray:
    """Returns the byte array of inputs. Raises what a call raises."""
    return self._apply('byte_array', inputs, normalized)

  def encode(self, inputs: Inputs, *, normalized: bool = False) -> jax.Array:
    """Returns the last latents [B, N, D]. Raises what a call raises."""
    return self._apply('latents', inputs, normalized)

  def embed(self, inputs: Inputs, *, normalized: bool = False) -> jax.Array:
    """Returns an embedding of each example [B, D], which the logits are of.

    Raises what a call raises.
    """
    return self._apply('embeddings', inputs, normalized)

  def attention_queries(
    self, inputs: Inputs, *, normalized: bool = False
  ) -> list[InputQueries]:
    """Returns each cross-attend's queries, which `attention_maps` takes.

    Raises what a call raises.
    """
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
  source: PathLike,
  *,
  revision: str | None = None,
  attention: str = 'auto',
  attention_tile: int | None = None,
  attention_kernel: bool = True,
  self_attention: str = 'auto',
  compute_dtype: str | None = None,
  mesh: Mesh | None = None,
) -> Pretrained:
  """Loads a trained model.

  Args:
    source: a folder that `scripts.export` has written, or one of transformers;
      or the name of such a repository on a hub: 'owner/name' or
      'owner/name@revision'; or a `.pystate` file of the authors. A path that
      exists wins.
    revision: a branch, a tag or a commit of that repository.
    attention: as in `Perceiver`: the form of cross-attention.
    attention_tile: as in `Perceiver`.
    attention_kernel: as in `Perceiver`.
    self_attention: as in `Perceiver`: how latents attend to each other.
    compute_dtype: as in `Perceiver`; None: as the model was trained.
    mesh: as in `Perceiver`.

  Returns:
    The model.

  Raises:
    FileNotFoundError: if there is no such folder or repository, if it cannot
      be downloaded, or if a file is missing in it.
    PermissionError: if access to the repository must be granted first.
    weight_files.WeightsError: if its files are damaged, do not fit each other,
      or describe a model that this library does not have.
    ValueError: if the form of attention is unknown, or a path has a revision.
    TypeError: if the dtype is unknown.
  """
  if attention not in ('auto', *cross_attention.FORMS):
    raise ValueError(
      f'attention={attention!r} is none of {("auto", *cross_attention.FORMS)}.'
    )
  config, tensors = exports.read(source, revision)
  choices = {
    'attention': attention,
    'attention_tile': attention_tile,
    'attention_kernel': attention_kernel,
    'self_attention': self_attention,
    'mesh': mesh,
  }
  if compute_dtype is not None:
    choices['compute_dtype'] = jnp.dtype(compute_dtype).name
  inputs = exports.read_modalities(config)
  functions = {
    name: _compile(name, config['model'] | choices, inputs, mesh)
    for name in _OUTPUTS
  }
  placement = None if mesh is None else NamedSharding(mesh, PartitionSpec())
  params = jax.device_put(exports.as_params(tensors), placement)
  return Pretrained(config, params, inputs, functions)


_OUTPUTS: dict[str, Callable[[Perceiver, ByteArray], Any]] = {
  'logits': lambda model, inputs: model(inputs),
  'latents': lambda model, inputs: model.encode(inputs),
  'embeddings': lambda model, inputs: model.embed(inputs),
  'queries': lambda model, inputs: model.attention_queries(inputs),
  'byte_array': lambda model, inputs: inputs,
}


def _compile(
  name: str,
  model: Mapping[str, Any],
  inputs: Mapping[str, Modality],
  mesh: Mesh | None,
) -> Callable[..., Any]:
  """Compiles one of `_OUTPUTS` as (params, batch, normalized) -> result."""

  def forward(batch: Mapping[str, Any], normalized: bool) -> Any:
    array = modalities.byte_array(
      inputs, batch, normalized=normalized, mesh=mesh
    )
    return _OUTPUTS[name](Perceiver(**model), array)

  apply = hk.transform(forward).apply
  return jax.jit(
    lambda params, *arguments: apply(params, None, *arguments), static_argnums=2
  )
