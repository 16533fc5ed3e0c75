"""Checkpoints of the state and of the position in the data.

Orbax writes them, and `seal` tells which are intact. A checkpoint without a
seal, or with a broken one, is never restored: the one before it is.
"""

from concurrent import futures
import math
from typing import Any

from etils import epath
import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

from experiments import seal, storage

DELETING = 'deleting'  # Where Orbax moves a checkpoint to delete it.


class CheckpointMismatchError(ValueError):
  """A checkpoint's arrays do not have the shapes that the config asks for."""


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, for runs that are damaged or told to stop."""

  def metrics(self, step: int) -> Any:
    """Returns a checkpoint's scores; None also if they cannot be read.

    The manager reads those of all checkpoints when it opens.
    """
    try:
      return super().metrics(step)
    except ValueError:
      return None

  def reached_preemption(self, step: int) -> bool:
    """Returns False: `preemption` alone asks JAX whether the run is to stop.

    JAX says yes to a single number: the one after the largest that any process
    has asked with. Orbax would ask with training steps, before, during and
    after a save, and the run's own questions would then miss that number.
    """
    del step
    return False


class Checkpoints:
  """The checkpoints of one run: the latest ones and the best one are kept."""

  def __init__(
    self, workdir: str, *, best_metric: str, keep: int, read_only: bool
  ):
    """Opens a workdir's checkpoints.

    Args:
      workdir: the run's directory, the same for all processes.
      best_metric: the metric that is highest for the best checkpoint.
      keep: how many of the latest checkpoints to keep, beside the best one.
      read_only: whether to write nothing, as for an evaluation, which may run
        beside a training.
    """
    self._directory = _directory(workdir)
    self._is_main = jax.process_index() == 0
    sound = []
    if self._is_main:
      sound = seal.sound_steps(self._directory, set_aside=not read_only)
    self._sound_steps = _broadcast_list(sound)
    self._sealing: tuple[int, futures.Future[None]] | None = None
    self._sealer = futures.ThreadPoolExecutor(1, 'seal')

    def metric(metrics: dict[str, float]) -> float:
      # Orbax sorts by it; NaN has no place in an order.
      value = metrics[best_metric]
      return value if math.isfinite(value) else -math.inf

    self._metric = metric
    policies = ocp.checkpoint_managers
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy(
        [
          policies.LatestN(keep),
          policies.BestN(
            get_metric_fn=metric,
            n=1,
            keep_checkpoints_without_metrics=False,
          ),
        ]
      ),
      best_fn=metric,
      todelete_subdir=DELETING,
      cleanup_tmp_directories=not read_only,
      read_only=read_only,
      create=not read_only,
    )
    with storage.writing(self._directory):
      self._manager = _Manager(
        self._directory,
        options=options,
        item_handlers={
          'state': ocp.StandardCheckpointHandler(),
          'data': ocp.JsonCheckpointHandler(),
        },
      )

  @staticmethod
  def exist(workdir: str) -> bool:
    """Returns whether a workdir has checkpoints, intact or not."""
    return _directory(workdir).exists()

  def step(self, which: str) -> int | None:
    """Returns the step of the 'latest' or the 'best' intact checkpoint, if any.

    The best one is the latest of those with the highest score, or the latest of
    all if no score is finite.
    """
    there = set(self._manager.all_steps())
    sound = [step for step in self._sound_steps if step in there]
    if which == 'best':
      scores = {step: self._manager.metrics(step) for step in sound}
      values = [(self._metric(x), step) for step, x in scores.items() if x]
      best, step = max(values, default=(-math.inf, None))
      if best > -math.inf:
        return step
    return max(sound, default=None)

  def restore(self, step: int, state: Any) -> tuple[Any, int]:
    """Reads a checkpoint: the state, and the position in the data in examples.

    `state` is the tree of shapes, dtypes and shardings to restore to.

    Raises:
      CheckpointMismatchError: if the checkpoint has arrays of other names,
        shapes or dtypes.
    """
    self._check_shapes(step, state)
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(state), data=ocp.args.JsonRestore()
      ),
    )
    return restored.state, restored.data['position']

  def _check_shapes(self, step: int, state: Any) -> None:
    saved = _shapes_by_name(self._manager.item_metadata(step).state)
    wanted = _shapes_by_name(state)
    differences = [
      f'{name}: {saved.get(name, "absent")} in the checkpoint,'
      f' {wanted.get(name, "absent")} in this config'
      for name in wanted | saved
      if saved.get(name) != wanted.get(name)
    ]
    if differences:
      more = len(differences) - 3
      raise CheckpointMismatchError(
        f'Checkpoint {step} in {self._directory} is of another model:\n  '
        + '\n  '.join(differences[:3])
        + (f'\n  and {more} more' if more > 0 else '')
        + '\nUse its own config, or another --workdir.'
      )

  def save(
    self,
    step: int,
    state: Any,
    position: int,
    metrics: dict[str, float] | None = None,
  ) -> None:
    """Starts to write and seal a checkpoint, once the one before is sealed.

    Raises:
      OSError: if this one or the one before cannot be written; sealed ones are
        unchanged.
    """
    self._finish()
    with storage.writing(self._directory / str(step), ValueError):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          data=ocp.args.JsonSave({'position': position}),
        ),
        metrics=metrics,
      )
    self._sealing = step, self._sealer.submit(self._seal, step)

  def poll(self) -> None:
    """Checks whether the checkpoint being written is sealed. Never waits.

    Raises:
      OSError: if it could not be written.
    """
    if self._sealing and self._sealing[1].done():
      self._finish()

  def has_score(self, step: int) -> bool:
    """Returns whether a checkpoint has metrics."""
    return self._manager.metrics(step) is not None

  def add_score(self, step: int, metrics: dict[str, float]) -> None:
    """Adds metrics to a sealed checkpoint that was saved without them.

    The seal does not cover them until all are written, so a kill damages
    nothing.
    """
    path = self._directory / str(step) / seal.SCORE
    with (
      storage.writing(path, ValueError),
      ocp.Checkpointer(
        ocp.JsonCheckpointHandler(filename=seal.SCORE)
      ) as writer,
    ):
      writer.save(path, ocp.args.JsonSave(metrics))
    if self._is_main:
      seal.write(self._directory / str(step), part=seal.SCORE)
    self._manager.reload()

  def close(self) -> None:
    """Waits until the checkpoint being written is sealed.

    Raises:
      OSError: if it could not be written.
    """
    try:
      self._finish()
    finally:
      self._sealer.shutdown()
      self._manager.close()

  def _seal(self, step: int) -> None:
    """Seals the checkpoint being written, in a thread beside the training."""
    self._manager.wait_until_finished()
    if self._is_main:
      seal.write(self._directory / str(step))
      # Orbax moves old ones here, so that no kill leaves half of one.
      if (self._directory / DELETING).exists():
        (self._directory / DELETING).rmtree()

  def _finish(self) -> None:
    if self._sealing is None:
      return
    (step, sealed), self._sealing = self._sealing, None
    with storage.writing(self._directory / str(step), ValueError):
      self._manager.wait_until_finished()  # It raises once in each thread.
      sealed.result()
    self._sound_steps.append(step)


def _shapes_by_name(tree: Any) -> dict[str, str]:
  """Returns 'float32[2, 3]' by an array's path, the parameters first."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  shapes = {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{x.dtype}{list(x.shape)}'
    )
    for path, x in leaves
  }
  return dict(sorted(shapes.items(), key=lambda x: 'params/' not in x[0]))


def _broadcast_list(values: list[int]) -> list[int]:
  """Returns process 0's values in all processes."""
  if jax.process_count() == 1:
    return values
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(values))))
  padded = np.zeros(length, np.int32)
  padded[: len(values)] = values[:length]
  return [int(x) for x in multihost_utils.broadcast_one_to_all(padded)]


def _directory(workdir: str) -> epath.Path:
  return storage.absolute(storage.path(workdir)) / 'checkpoints'
