"""What a benchmark is: the only thing that differs between experiments."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import perceiver

Batch = Mapping[str, Any]  # Arrays [B, ...] by name; 'mask' [B] among them.


class DataNotFoundError(FileNotFoundError):
  """A data set is not where it was looked for; says how to prepare it."""


class Task(abc.ABC):
  """Where examples come from, the model's input, the loss and the metrics.

  The defaults for the loss and the metrics are those of a classification with
  one label for each example.
  """

  num_classes: int
  train_split = 'train'
  eval_split = 'test'
  best_metric = 'top1'  # What the best checkpoint has the most of.

  @abc.abstractmethod
  def num_examples(self, split: str) -> int:
    """The size of a split of the whole data set, known without having it."""

  @abc.abstractmethod
  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    """Records by index. Raises DataNotFoundError where there is no data."""

  @abc.abstractmethod
  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Decodes and augments one record."""

  @abc.abstractmethod
  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    """Decodes one record for evaluation."""

  @abc.abstractmethod
  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an example."""

  @abc.abstractmethod
  def byte_array(self, batch: Batch, is_training: bool) -> perceiver.ByteArray:
    """The model's input; may have parameters (runs inside the transform)."""

  def loss(self, logits: jax.Array, batch: Batch) -> jax.Array:
    """[B] losses for [B, classes] logits: softmax cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['label']
    )

  def metrics(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Values [B] by name, to be averaged over examples."""
    correct = jnp.argmax(logits, axis=-1) == batch['label']
    return {'top1': correct.astype(jnp.float32)}

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch, with the mask that the pipeline adds."""
    spec = self.example_spec() | {'mask': jax.ShapeDtypeStruct((), jnp.bool_)}
    return {
      name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype)
      for name, x in spec.items()
    }
