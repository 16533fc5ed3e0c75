"""Evaluation in which every example counts exactly once."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import pipeline, preemption, sharding, telemetry
from experiments.experiment import Experiment, TrainState
from experiments.task import Summary

SplitMetrics = dict[str, dict[str, float]]  # By split and metric.


class BatchResult(NamedTuple):
  """Of a global batch; each process has all of it."""

  totals: Any  # Sums over unmasked examples by metric, and 'count'.
  mask: Any  # [B] bool
  outputs: Any  # The task's, [B, ...] by name.


def make_eval_step(experiment: Experiment) -> Callable[..., BatchResult]:
  """A jitted (params, model_state, batch) -> BatchResult."""
  task, mesh = experiment.task, experiment.mesh

  def eval_step(params: Any, model_state: Any, batch: Any) -> BatchResult:
    def apply(batch: Any) -> jax.Array:
      forward = experiment.forward.apply
      return forward(params, model_state, None, batch, False)[0]

    logits = task.predict(apply, batch)
    values = task.metrics(logits, batch) | {'loss': task.loss(logits, batch)}
    mask = batch['mask']  # [B]
    totals = {
      name: jnp.sum(jnp.where(mask, value, 0.0))
      for name, value in values.items()
    }
    totals |= {'count': jnp.sum(mask)}
    return BatchResult(totals, mask, task.outputs(logits, batch))

  return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))


def batches(
  experiment: Experiment, source: Sequence[Any]
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
  )


def evaluate(
  experiment: Experiment,
  eval_step: Callable[..., BatchResult],
  params: Any,
  model_state: Any,
  batches: Iterable[pipeline.NumpyBatch],
) -> Summary:
  """Metrics over all examples.

  Args:
    experiment: its mesh is where the batches go.
    eval_step: as from `make_eval_step`.
    params: the model's parameters.
    model_state: its state.
    batches: this process's share, each with a 'mask' [B].

  Returns:
    The mean of each metric and of the loss, and 'count', the examples seen;
    and what the task makes of its outputs.

  Raises:
    preemption.PreemptedError: after SIGTERM, between two batches.
  """
  results: list[BatchResult] = []
  for batch in batches:
    batch = sharding.put_batch(batch, experiment.mesh)
    results.append(eval_step(params, model_state, batch))
    # One batch waits on the device while another is computed, no more.
    results[-2:-1] = jax.device_get(results[-2:-1])
    if preemption.is_told_to_stop():
      raise preemption.PreemptedError(
        'Told to stop during an evaluation: the same command does it again.'
      )
  results = jax.device_get(results)
  # Summed on the host in float64: counts stay exact.
  sums = jax.tree.map(
    lambda *x: np.sum(x, dtype=np.float64), *(r.totals for r in results)
  )
  count = sums.pop('count')
  means = {name: float(value / count) for name, value in sums.items()}
  outputs = jax.tree.map(
    lambda *x: np.concatenate(x), *(r.outputs for r in results)
  )
  mask = np.concatenate([r.mask for r in results])
  summary = experiment.task.summarize(
    {name: x[mask] for name, x in outputs.items()}
  )
  metrics = means | summary.metrics | {'count': int(count)}
  return Summary(metrics, summary.files)


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
  """Metrics of each of the splits; the task's files go to the workdir.

  Raises what `evaluate` raises.
  """
  metrics = {}
  for split, source in sources.items():
    with contextlib.closing(batches(experiment, source)) as some:
      summary = evaluate(
        experiment, eval_step, state.params, state.model_state, some
      )
    telemetry.write_files(workdir, summary.files)
    metrics[split] = summary.metrics
  return metrics


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
