"""A benchmark as a task: the only thing that differs between experiments."""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.display import Display
from experiments.errors import DamagedRecordError
from perceiver.modalities import Modality

Batch = Mapping[str, Any]  # Arrays [B, ...] by name; 'mask' [B] among them.


@dataclasses.dataclass(frozen=True)
class Summary:
  """Results of an evaluation beside the averages over examples."""

  metrics: dict[str, float]
  # Texts by name, for the run's directory.
  files: dict[str, str] = dataclasses.field(default_factory=dict)


# Yields each path, in order, with its record or with why there is none: a
# DamagedRecordError or an OSError. The label of such a record means nothing.
Read = Callable[[Iterable[str]], Iterator[tuple[str, Any | Exception]]]


@dataclasses.dataclass(frozen=True)
class FileReader:
  """How a benchmark reads files that are not of its data set."""

  suffixes: tuple[str, ...]  # Files with these are taken from a folder.
  read: Read


def one_by_one(read_file: Callable[[str], Any]) -> Read:
  """Returns a `FileReader.read` that reads one file after the other.

  `read_file` raises DamagedRecordError or OSError for what it cannot read.
  """

  def read(paths: Iterable[str]) -> Iterator[tuple[str, Any | Exception]]:
    for path in paths:
      try:
        yield path, read_file(path)
      except (DamagedRecordError, OSError) as error:
        yield path, error

  return read


def _refuse(path: str) -> Any:
  raise DamagedRecordError(f'{path}: nothing is read from files here.')


class Task(abc.ABC):
  """Where examples come from, the model's input, the loss and the metrics.

  A subclass is a dataclass: its fields are the keys of a config's `task`. It
  defines what is abstract here. All else has a default, for a classification
  with one label per example.
  """

  num_classes: int
  train_split = 'train'
  eval_splits: tuple[str, ...] = ('test',)
  best_metric = 'top1'  # The best checkpoint has most of it on eval_splits[0].
  has_several_labels = False  # An example may have any number of classes.

  # Records, and the examples that they are decoded to.

  @abc.abstractmethod
  def num_examples(self, split: str) -> int:
    """The size of a split of the whole data set, known without having it."""

  @abc.abstractmethod
  def source(self, split: str, data_dir: str | None) -> Sequence[Any]:
    """Records by index. Raises DataNotFoundError where there is no data."""

  def class_names(self, data_dir: str | None) -> Sequence[str]:
    """Names of the classes. Raises what `source` raises."""
    del data_dir
    return [str(i) for i in range(self.num_classes)]

  @abc.abstractmethod
  def train_example(
    self, record: Any, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Decodes and augments a record. Raises DamagedRecordError."""

  @abc.abstractmethod
  def eval_example(self, record: Any) -> dict[str, np.ndarray]:
    """Decodes a record for evaluation. Raises DamagedRecordError."""

  @abc.abstractmethod
  def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an example."""

  def eval_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an evaluation example."""
    return self.example_spec()

  # The model's input.

  @property
  @abc.abstractmethod
  def modalities(self) -> Mapping[str, Modality]:
    """The parts of the model's input, by name; an export has them too."""

  @property
  def num_mixed(self) -> int:
    """How many consecutive training examples `augment_batch` makes one of."""
    return 1

  def augment_batch(self, batch: Batch, key: jax.Array) -> Batch:
    """Augments a training batch on the device, where examples meet.

    Args:
      batch: as `train_batch_spec` says.
      key: for random draws.

    Returns:
      A batch for the model, which `num_mixed` makes so many times smaller.
    """
    del key
    return batch

  # From the model's logits to metrics.

  def predict(
    self, apply: Callable[[Batch], jax.Array], batch: Batch
  ) -> jax.Array:
    """Logits of an evaluation batch, for `scores`, `loss` and all that follow.

    Args:
      apply: the model; returns the logits of a batch shaped as in training.
      batch: of evaluation examples.
    """
    return apply(batch)

  def scores(self, logits: jax.Array) -> jax.Array:
    """[B, classes] probabilities, from the logits of `predict`."""
    return jax.nn.softmax(logits, axis=-1)

  def loss(self, logits: jax.Array, batch: Batch) -> jax.Array:
    """[B] losses for [B, classes] logits: softmax cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['label']
    )

  def metrics(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Values [B] by name, to be averaged over examples."""
    correct = jnp.argmax(logits, axis=-1) == batch['label']
    return {'top1': correct.astype(jnp.float32)}

  def outputs(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Arrays [B, ...] by name that `summarize` needs of an evaluation batch."""
    del logits, batch
    return {}

  def summarize(
    self, outputs: Mapping[str, np.ndarray], class_names: Sequence[str]
  ) -> Summary:
    """Metrics that are not averages, from the outputs of all examples."""
    del outputs, class_names
    return Summary({})

  # For people: how their own files are read, and how examples are shown.

  file_reader = FileReader((), one_by_one(_refuse))

  @property
  def display(self) -> Display:
    """Shows the label alone, by default."""
    return Display()

  # What follows from the above.

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch for the model, with the pipeline's mask."""
    return _batch_spec(self.example_spec(), batch_size)

  def train_batch_spec(
    self, batch_size: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a training batch, as the pipeline yields it.

    It has `num_mixed` examples for each of the `batch_size` that the model
    sees.
    """
    return self.batch_spec(batch_size * self.num_mixed)

  def eval_batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an evaluation batch, with the pipeline's additions.

    These are the mask and 'record', the index of each example in the split.
    """
    record = jax.ShapeDtypeStruct((), jnp.int32)
    return _batch_spec(self.eval_spec() | {'record': record}, batch_size)


def _batch_spec(
  example: dict[str, jax.ShapeDtypeStruct], batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and dtypes of a batch, with the mask that the pipeline adds."""
  spec = example | {'mask': jax.ShapeDtypeStruct((), jnp.bool_)}
  return {
    name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype)
    for name, x in spec.items()
  }


@contextlib.contextmanager
def naming_the_section() -> Iterator[None]:
  """Puts `task.` before what the library says of a setting."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'task.{error}') from error
