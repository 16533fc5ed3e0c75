"""The training loop, which knows no benchmark and no model."""

from collections.abc import Generator, Iterator, Mapping, Sequence
import contextlib
import functools
import logging
from typing import Any

import jax
import numpy as np

from experiments import (
  data_workers,
  evaluate,
  hold,
  nonfinite,
  pipeline,
  preemption,
  profiling,
  saved,
  sharding,
  telemetry,
  warm_start,
  watchdog,
)
from experiments.checkpoint import Checkpoints
from experiments.experiment import Experiment, TrainState
from experiments.metrics import MetricsWriter
from experiments.train_step import make_train_step

log = logging.getLogger(__name__)


def train(experiment: Experiment, workdir: str) -> evaluate.SplitMetrics:
  """Trains to the end, from the workdir's latest checkpoint if there is one.

  Nothing is written if the data is missing, another launch trains in the
  workdir, or its checkpoint or the weights to start from do not fit.

  Args:
    experiment: what to train, and on which data.
    workdir: checkpoints, metrics.jsonl and TensorBoard events go there.

  Returns:
    The metrics of the last evaluation, by split.

  Raises:
    errors.DataNotFoundError: if the data is missing.
    hold.WorkdirInUseError: if another launch trains there.
    checkpoint.CheckpointMismatchError: if the checkpoint is of another model.
    ValueError: if `train.init_from` does not fit.
    nonfinite.NonFiniteError: if more than `train.max_skipped_steps` in a row
      have a loss or a gradient that is not finite, or the parameters are not;
      the checkpoints are from before.
    errors.DamagedDataError: if too many records turn out to be damaged.
    preemption.PreemptedError: after SIGTERM; the same command goes on from
      there, and first repeats an evaluation that was cut off.
  """
  config = experiment.config
  train_source = experiment.source(experiment.task.train_split)
  eval_sources = evaluate.open_sources(experiment)
  # The training's workers keep their shared memory during an evaluation.
  data_workers.check_shared_memory(
    pipeline.shared_bytes(
      experiment.task.example_spec(),
      experiment.task.num_mixed
      * config.train.batch_size
      // jax.process_count(),
      config.data.num_workers,
    )
    + evaluate.shared_bytes(experiment)
  )
  weights = None
  if config.train.init_from and not Checkpoints.exist(workdir):
    weights = warm_start.read(experiment)  # Before anything is written.
  with hold.holding(workdir):
    return _train(experiment, workdir, train_source, eval_sources, weights)


def _train(
  experiment: Experiment,
  workdir: str,
  train_source: Sequence[Any],
  eval_sources: Mapping[str, Sequence[Any]],
  weights: dict[str, np.ndarray] | None,
) -> evaluate.SplitMetrics:
  """Trains as `train` does, on data and weights that have been opened."""
  task, config, mesh = experiment.task, experiment.config, experiment.mesh
  total_steps = experiment.total_steps
  checkpoints = Checkpoints(
    workdir,
    best_metric=task.best_metric,
    keep=config.train.keep_checkpoints,
    read_only=False,
  )
  state, position = _restore_or_init(experiment, workdir, checkpoints, weights)
  start_step = int(state.step)
  batches = _batches(experiment, train_source, position, workdir)
  telemetry.record_launch(workdir, config, start_step, experiment.class_names)
  records = MetricsWriter(
    workdir,
    start_step=start_step,
    total_steps=total_steps,
    batch_size=config.train.batch_size,
    num_examples=len(train_source),
  )
  profiler = profiling.Profiler(
    workdir, profiling.parse_steps(config.train.profile_steps, total_steps)
  )
  guard = nonfinite.Guard(workdir, config.train.max_skipped_steps, checkpoints)
  step_records = _StepRecords(experiment, guard, records)
  train_step = watchdog.compiles_first(make_train_step(experiment))
  evaluate_splits = functools.partial(
    evaluate.evaluate_splits,
    experiment,
    watchdog.compiles_first(evaluate.make_eval_step(experiment)),
    sources=eval_sources,
    workdir=workdir,
  )

  def is_evaluated(step: int) -> bool:
    is_due = step > 0 and step % config.train.eval_every == 0
    return step == total_steps or is_due

  scored_split = task.eval_splits[0]
  eval_metrics: evaluate.SplitMetrics = {}
  with _closing(workdir, profiler, batches, checkpoints, records):
    if is_evaluated(start_step) and not checkpoints.has_score(start_step):
      log.info('The evaluation of step %d was cut off.', start_step)
      eval_metrics = evaluate_splits(state)
      _record_evaluation(records, start_step, eval_metrics)
      checkpoints.add_score(start_step, eval_metrics[scored_split])
    for step in range(start_step + 1, total_steps + 1):
      profiler.start(step)
      watchdog.begin(f'waiting for the data of step {step}')
      batch = sharding.put_batch(next(batches), mesh)
      watchdog.begin(f'step {step}')
      state, metrics = train_step(state, batch)
      profiler.stop(step, metrics)
      position += task.num_mixed * config.train.batch_size
      step_records.add(step, metrics)
      checkpoints.poll()

      is_told_to_stop = preemption.is_told_to_stop()
      if not (
        is_told_to_stop
        or is_evaluated(step)
        or step % config.train.checkpoint_every == 0
      ):
        continue
      # Nothing is evaluated or saved that is not known to be finite.
      step_records.flush()
      guard.check_parameters(step, state)
      score = None
      if is_evaluated(step) and not is_told_to_stop:
        try:
          eval_metrics = evaluate_splits(state)
          _record_evaluation(records, step, eval_metrics)
          score = eval_metrics[scored_split]
        except preemption.PreemptedError:
          is_told_to_stop = True
      watchdog.begin(f'saving step {step}')
      records.flush()  # A run that is killed later goes back to this step.
      checkpoints.save(step, state, position, score)
      if is_told_to_stop:
        raise preemption.PreemptedError(
          f'Told to stop at step {step} of {total_steps}: the checkpoint is'
          ' saved. Run the same command to go on.'
        )
  if start_step >= total_steps and not eval_metrics:
    log.info('Nothing to train: step %d of %d.', start_step, total_steps)
    eval_metrics = evaluate_splits(state)
  telemetry.record_ending(workdir, telemetry.FINISHED)
  return eval_metrics


def _batches(
  experiment: Experiment, source: Sequence[Any], position: int, workdir: str
) -> Generator[pipeline.NumpyBatch]:
  """This process's share of the training data, from a position on."""
  task, config = experiment.task, experiment.config
  return pipeline.train_batches(
    task,
    source,
    batch_size=config.train.batch_size,
    seed=config.seed,
    position=position,
    num_workers=config.data.num_workers,
    max_damaged=config.data.max_damaged,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    on_damaged=telemetry.DamagedRecords(workdir, task.train_split).add,
  )


class _StepRecords:
  """Records the metrics of steps, each while the next one is computed."""

  def __init__(
    self,
    experiment: Experiment,
    guard: nonfinite.Guard,
    records: MetricsWriter,
  ):
    self._log_every = experiment.config.train.log_every
    self._total_steps = experiment.total_steps
    self._guard = guard
    self._records = records
    self._pending: tuple[int, dict[str, jax.Array]] | None = None

  def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
    """Records the step before, and keeps the metrics of this one."""
    self.flush()
    self._pending = step, metrics

  def flush(self) -> None:
    """Waits until the step dispatched last is done, and records it.

    Raises:
      NonFiniteError: as `Guard.was_skipped`.
    """
    if self._pending is None:
      return
    (step, metrics), self._pending = self._pending, None
    values = {name: float(x) for name, x in jax.device_get(metrics).items()}
    if self._guard.was_skipped(step, values):
      return
    if step % self._log_every == 0 or step == self._total_steps:
      self._records.write(step, 'train', values)
    self._records.progress(step, values)


def _record_evaluation(
  records: MetricsWriter, step: int, metrics: evaluate.SplitMetrics
) -> None:
  for split, values in metrics.items():
    records.write(step, split, values)
    log.info('step %d: %s', step, evaluate.summary(split, values))


@contextlib.contextmanager
def _closing(workdir: str, *some: Any) -> Iterator[None]:
  """Closes all, even if one fails; records why a run ended early."""
  try:
    with contextlib.ExitStack() as stack:
      for x in reversed(some):
        stack.callback(x.close)
      stack.callback(watchdog.begin, 'the last save')
      yield
  except BaseException as error:
    telemetry.record_ending(workdir, str(error) or type(error).__name__)
    raise


def _restore_or_init(
  experiment: Experiment,
  workdir: str,
  checkpoints: Checkpoints,
  weights: dict[str, np.ndarray] | None,
) -> tuple[TrainState, int]:
  """The state to go on from, and the position in the data.

  `weights` are those of `train.init_from`, if they have been read.
  """
  watchdog.begin('restoring')
  step = checkpoints.step('latest')
  if step is not None:
    log.info('Going on from the checkpoint of step %d.', step)
    return saved.restore_step(experiment, workdir, checkpoints, step)
  shardings = sharding.state_shardings(experiment.mesh, experiment.state_shapes)
  init = jax.jit(experiment.init_state, out_shardings=shardings)
  state = init(jax.random.key(experiment.config.seed))
  if experiment.config.train.init_from:
    if weights is None:  # There are checkpoints, but none is intact.
      weights = warm_start.read(experiment)
    state = state._replace(params=warm_start.put(state.params, weights))
  return state, 0
