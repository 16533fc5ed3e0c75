"""Evaluation in which every example counts exactly once."""

from collections.abc import (
  Callable,
  Generator,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
import contextlib
import functools
import io
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import pipeline, preemption, sharding, telemetry, watchdog
from experiments.errors import DamagedDataError
from experiments.experiment import Experiment, TrainState
from experiments.task import Task

SplitMetrics = dict[str, dict[str, float]]  # By split and metric.
TOP = 5  # Classes that are kept of each prediction.


class UnwrittenError(OSError):
  """Files of an evaluation cannot be written; carries its metrics."""

  def __init__(self, message: str, metrics: SplitMetrics):
    super().__init__(message)
    self.metrics = metrics


class BatchResult(NamedTuple):
  """Results of a global batch; each process has all of them."""

  totals: Any  # Sums over unmasked examples by metric, and 'count'.
  mask: Any  # [B] bool
  outputs: Any  # The task's, [B, ...] by name.
  predictions: Any  # As in `Evaluation`, [B, ...].


class Evaluation(NamedTuple):
  """Evaluation results of one split."""

  metrics: dict[str, float]  # Means, 'loss' and 'count', and the task's own.
  files: dict[str, str]  # The task's, by name.
  # Arrays of all examples that can be read: 'record' (the index in the split),
  # 'loss', 'classes' and 'scores' [examples, TOP], the best first; 'label', if
  # there is just one; and 'all_…', what `Task.summarize` needs.
  predictions: dict[str, np.ndarray]


def predict(
  experiment: Experiment, params: Any, model_state: Any, batch: Any
) -> jax.Array:
  """Logits of an evaluation batch, as `Task.predict` returns them."""

  def apply(batch: Any) -> jax.Array:
    forward = experiment.forward.apply
    return forward(params, model_state, None, batch, False)[0]

  return experiment.task.predict(apply, batch)


def best_classes(
  task: Task, logits: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
  """Scores and indices [B, count] of the best classes, or of all there are."""
  scores = task.scores(logits)
  top, classes = jax.lax.top_k(scores, min(count, scores.shape[-1]))
  return top, classes


def make_eval_step(experiment: Experiment) -> Callable[..., BatchResult]:
  """A jitted (params, model_state, batch) -> BatchResult."""
  task, mesh = experiment.task, experiment.mesh

  def eval_step(params: Any, model_state: Any, batch: Any) -> BatchResult:
    logits = predict(experiment, params, model_state, batch)
    values = task.metrics(logits, batch) | {'loss': task.loss(logits, batch)}
    mask = batch['mask']  # [B]
    totals = {
      name: jnp.sum(jnp.where(mask, value, 0.0))
      for name, value in values.items()
    }
    totals |= {'count': jnp.sum(mask)}
    top, classes = best_classes(task, logits, TOP)
    predictions = {
      'record': batch['record'],
      'loss': values['loss'],
      'classes': classes,
      'scores': top,
    }
    if 'label' in batch:
      predictions['label'] = batch['label']
    return BatchResult(totals, mask, task.outputs(logits, batch), predictions)

  program = jax.jit(eval_step, out_shardings=sharding.replicated(mesh))
  return experiment.programs.setdefault('eval_step', program)


def batches(
  experiment: Experiment,
  source: Sequence[Any],
  on_damaged: pipeline.OnDamaged | None = None,
) -> Generator[pipeline.NumpyBatch]:
  """This process's share of a split, each example once."""
  return pipeline.eval_batches(
    experiment.task,
    source,
    batch_size=experiment.config.eval.batch_size,
    num_workers=experiment.config.data.num_workers,
    max_damaged=experiment.config.data.max_damaged,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    on_damaged=on_damaged,
  )


def shared_bytes(experiment: Experiment) -> int:
  """Bytes of shared memory that `batches` takes."""
  config = experiment.config
  return pipeline.shared_bytes(
    experiment.task.eval_spec(),
    config.eval.batch_size // jax.process_count(),
    config.data.num_workers,
  )


def evaluate(
  experiment: Experiment,
  eval_step: Callable[..., BatchResult],
  params: Any,
  model_state: Any,
  batches: Iterable[pipeline.NumpyBatch],
) -> Evaluation:
  """Evaluates all examples, of which each process gives its share of batches.

  Each batch has a 'mask' [B].

  Raises:
    preemption.PreemptedError: after SIGTERM, between two batches.
    ValueError: if there are no examples.
    errors.DamagedDataError: if none can be read.
  """
  results: list[BatchResult] = []
  watchdog.begin('an evaluation')
  for batch in batches:
    batch = sharding.put_batch(batch, experiment.mesh)
    results.append(eval_step(params, model_state, batch))
    watchdog.begin('an evaluation')
    # At most one batch waits on the device while another is computed.
    results[-2:-1] = jax.device_get(results[-2:-1])
    if preemption.is_told_to_stop():
      raise preemption.PreemptedError(
        'Told to stop during an evaluation: the same command does it again.'
      )
  if not results:
    raise ValueError('There are no examples to evaluate.')
  results = jax.device_get(results)
  # Summed on the host in float64: counts stay exact.
  sums = jax.tree.map(
    lambda *x: np.sum(x, dtype=np.float64), *(r.totals for r in results)
  )
  count = sums.pop('count')
  if not count:
    raise DamagedDataError('None of the examples to evaluate can be read.')
  means = {name: float(value / count) for name, value in sums.items()}
  mask = np.concatenate([r.mask for r in results])
  record = np.concatenate([r.predictions['record'] for r in results])
  # With several processes they are in another order.
  kept = np.argsort(record, kind='stable')
  kept = kept[mask[kept]]
  outputs, predictions = jax.tree.map(
    lambda *x: np.concatenate(x)[kept],
    *((r.outputs, r.predictions) for r in results),
  )
  summary = experiment.task.summarize(outputs, experiment.class_names)
  metrics = means | summary.metrics | {'count': int(count)}
  predictions |= {f'all_{name}': x for name, x in outputs.items()}
  return Evaluation(metrics, summary.files, predictions)


def open_sources(experiment: Experiment) -> dict[str, Sequence[Any]]:
  """Records of each split that the task is evaluated on."""
  return {
    split: experiment.source(split) for split in experiment.task.eval_splits
  }


def evaluate_splits(
  experiment: Experiment,
  eval_step: Callable[..., BatchResult],
  state: TrainState,
  sources: Mapping[str, Sequence[Any]],
  workdir: str,
) -> SplitMetrics:
  """Metrics of each of the splits.

  Writes to the workdir the task's files (SPLIT_NAME for all splits but the
  first) and predictions_SPLIT.npz, which has `Evaluation.predictions` and
  'step'.

  Raises:
    UnwrittenError: if a file cannot be written; all splits are evaluated first.
    preemption.PreemptedError: as `evaluate`.
  """
  metrics: SplitMetrics = {}
  problems: list[str] = []

  for split, source in sources.items():
    on_damaged = functools.partial(
      _record_damaged, telemetry.DamagedRecords(workdir, split), problems
    )
    with contextlib.closing(batches(experiment, source, on_damaged)) as some:
      evaluation = evaluate(
        experiment, eval_step, state.params, state.model_state, some
      )
    arrays = io.BytesIO()
    predictions: Any = {'step': int(state.step), **evaluation.predictions}
    np.savez(arrays, **predictions)
    prefix = f'{split}_' if metrics else ''
    files = {f'{prefix}{name}': x for name, x in evaluation.files.items()}
    with _collecting(problems):
      telemetry.write_files(
        workdir, files | {f'predictions_{split}.npz': arrays.getvalue()}
      )
    metrics[split] = evaluation.metrics
  if problems:
    raise UnwrittenError(problems[0], metrics)
  return metrics


def _record_damaged(
  records: telemetry.DamagedRecords,
  problems: list[str],
  record: int,
  reason: str,
) -> int:
  """Records one; returns how many there are, even if writing fails."""
  with _collecting(problems):
    records.add(record, reason)
  return len(records)


@contextlib.contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
  """Collects errors of writing instead of raising them."""
  try:
    yield
  except OSError as error:
    problems.append(str(error))


def summary(split: str, metrics: dict[str, float]) -> str:
  """'test top1 97.50 %, loss 0.1031 (360 examples)'."""
  values = [
    f'{name} {value}'
    if isinstance(value, int)  # A count.
    else f'{name} {value:.4f}'
    if name == 'loss'
    else f'{name} {100 * value:.2f} %'
    for name, value in sorted(metrics.items(), key=lambda m: m[0] == 'loss')
    if name != 'count'
  ]
  return f'{split} {", ".join(values)} ({metrics["count"]} examples)'
