"""The training loop: knows no benchmark and no model."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import logging
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from experiments import (
  evaluate,
  hold,
  pipeline,
  preemption,
  profiling,
  saved,
  sharding,
  shared_memory,
  telemetry,
  warm_start,
  watchdog,
)
from experiments.checkpoint import Checkpoints
from experiments.experiment import Experiment, TrainState
from experiments.train_step import make_train_step

log = logging.getLogger(__name__)


class NonFiniteError(FloatingPointError):
  """Losses, gradients or parameters are NaN or infinite."""


def train(experiment: Experiment, workdir: str) -> evaluate.SplitMetrics:
  """Trains to the end, from the workdir's latest checkpoint if there is one.

  Args:
    experiment: what to train, on what.
    workdir: checkpoints, metrics.jsonl and TensorBoard events go there.

  Returns:
    The metrics of the last evaluation, by split.

  Raises:
    errors.DataNotFoundError: before anything is written.
    hold.WorkdirInUseError: likewise, if another launch trains there.
    checkpoint.CheckpointMismatchError: likewise.
    ValueError: likewise, if `train.init_from` does not fit.
    NonFiniteError: if more than `train.max_skipped_steps` in a row have a loss
      or a gradient that is not finite, or the parameters are not; the
      checkpoints are from before.
    errors.DamagedDataError: if too many records turn out to be damaged.
    preemption.PreemptedError: after SIGTERM; the same command goes on from
      there. An evaluation that it cut off is done first.
  """
  config = experiment.config
  train_source = experiment.source(experiment.task.train_split)
  eval_sources = evaluate.open_sources(experiment)
  # Those who decode for training wait while others do for an evaluation.
  shared_memory.check(
    pipeline.shared_bytes(
      experiment.task.example_spec(),
      config.train.batch_size // jax.process_count(),
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
  """Trains, as `train` does, from data and weights that are there."""
  task, config, mesh = experiment.task, experiment.config, experiment.mesh
  total_steps, eval_every = experiment.total_steps, config.train.eval_every
  checkpoints = Checkpoints(
    workdir,
    best_metric=task.best_metric,
    keep=config.train.keep_checkpoints,
    read_only=False,
  )
  state, position = _restore_or_init(experiment, workdir, checkpoints, weights)
  start_step = int(state.step)
  batches = pipeline.train_batches(
    task,
    train_source,
    batch_size=config.train.batch_size,
    seed=config.seed,
    position=position,
    num_workers=config.data.num_workers,
    max_damaged=config.data.max_damaged,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    on_damaged=telemetry.DamagedRecords(workdir, task.train_split).add,
  )
  telemetry.record_launch(workdir, config, start_step, experiment.class_names)
  records = telemetry.Telemetry(
    workdir,
    start_step=start_step,
    total_steps=total_steps,
    batch_size=config.train.batch_size,
    num_examples=len(train_source),
  )
  profiler = profiling.Profiler(
    workdir, profiling.parse_steps(config.train.profile_steps, total_steps)
  )
  train_step = watchdog.compiles_first(make_train_step(experiment))
  eval_step = watchdog.compiles_first(evaluate.make_eval_step(experiment))
  skipped = 0  # Steps in a row.

  def fail(what: str) -> NoReturn:
    good = checkpoints.step('latest')
    raise NonFiniteError(
      f'{what}. The last good checkpoint in {workdir} is'
      f' {"none" if good is None else f"that of step {good}"}; a lower'
      ' optimizer.learning_rate may help.'
    )

  def record(step: int, metrics: dict[str, jax.Array]) -> None:
    """Reads a step's metrics: waits until the step is done."""
    nonlocal skipped
    values = {name: float(x) for name, x in jax.device_get(metrics).items()}
    if not np.isfinite([values['loss'], values['grad_norm']]).all():
      skipped += 1
      said = (
        f'Step {step} has loss {values["loss"]} and gradient norm'
        f' {values["grad_norm"]}'
      )
      telemetry.record_skipped_step(workdir, step, said)
      if skipped > config.train.max_skipped_steps:
        fail(f'{said}, and train.max_skipped_steps={skipped - 1}')
      log.warning('%s: skipped.', said)
      return
    skipped = 0
    if step % config.train.log_every == 0 or step == total_steps:
      records.write(step, 'train', values)
    records.progress(step, values)

  def evaluate_and_record(
    step: int, state: TrainState
  ) -> evaluate.SplitMetrics:
    metrics = evaluate.evaluate_splits(
      experiment, eval_step, state, eval_sources, workdir
    )
    for split, values in metrics.items():
      records.write(step, split, values)
      log.info('step %d: %s', step, evaluate.summary(split, values))
    return metrics

  def is_evaluated(step: int) -> bool:
    return step == total_steps or (step > 0 and step % eval_every == 0)

  scored_split = task.eval_splits[0]
  eval_metrics: evaluate.SplitMetrics = {}
  pending = None  # The step dispatched last, and its metrics on the device.
  with _closing(workdir, profiler, batches, checkpoints, records):
    if is_evaluated(start_step) and not checkpoints.has_score(start_step):
      log.info('The evaluation of step %d was cut off.', start_step)
      eval_metrics = evaluate_and_record(start_step, state)
      checkpoints.add_score(start_step, eval_metrics[scored_split])
    for step in range(start_step + 1, total_steps + 1):
      profiler.start(step)
      watchdog.begin(f'waiting for the data of step {step}')
      batch = sharding.put_batch(next(batches), mesh)
      watchdog.begin(f'step {step}')
      state, metrics = train_step(state, batch)
      profiler.stop(step, metrics)
      position += config.train.batch_size
      if pending:
        record(*pending)
      pending = (step, metrics)
      checkpoints.poll()

      is_told_to_stop = preemption.is_told_to_stop()
      saves = (
        is_told_to_stop
        or is_evaluated(step)
        or step % config.train.checkpoint_every == 0
      )
      score = None
      if saves:
        # Nothing is evaluated or saved that is not known to be finite.
        record(*pending)
        pending = None
        if not _all_finite((state.params, state.model_state)):
          fail(f'After step {step} the parameters are not finite')
      if is_evaluated(step) and not is_told_to_stop:
        try:
          eval_metrics = evaluate_and_record(step, state)
          score = eval_metrics[scored_split]
        except preemption.PreemptedError:
          is_told_to_stop = True
      if saves:
        watchdog.begin(f'saving step {step}')
        records.flush()  # All up to the step that a kill goes back to.
        checkpoints.save(step, state, position, score)
      if is_told_to_stop:
        raise preemption.PreemptedError(
          f'Told to stop at step {step} of {total_steps}: the checkpoint is'
          ' saved. Run the same command to go on.'
        )
  if start_step >= total_steps and not eval_metrics:
    log.info('Nothing to train: step %d of %d.', start_step, total_steps)
    eval_metrics = evaluate.evaluate_splits(
      experiment, eval_step, state, eval_sources, workdir
    )
  telemetry.record_ending(workdir, telemetry.FINISHED)
  return eval_metrics


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))


@contextlib.contextmanager
def _closing(workdir: str, *some: Any) -> Iterator[None]:
  """Closes each, whichever of them fails; records what ended the run early."""
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
    if weights is None:  # No checkpoint was intact.
      weights = warm_start.read(experiment)
    state = state._replace(params=warm_start.put(state.params, weights))
  return state, 0
