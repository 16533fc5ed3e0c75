"""Which examples processes get, of data sets that no number divides."""

from collections.abc import Callable, Iterator, Sequence
import itertools
import random
from typing import Any

import numpy as np

from configs import digits
from experiments import benchmarks, pipeline
from experiments.task import Task
from tests.torture.outcome import Outcome

SIZES = (1, 2, 3, 5, 7, 8, 23, 24, 25, 97, 101, 360)
PROCESSES = (1, 2, 3, 4, 8)
PER_PROCESS = (1, 3, 8)  # Examples in a batch.
EPOCHS = 3
MOST = 60  # Batches of one epoch: more of them test nothing else.


def run(seed: int, scale: float, folder: str) -> Iterator[Outcome]:
  """Deals out data sets of all sizes to all numbers of processes.

  Args:
    seed: of what is taken where the scale is below 1, and of where runs stop.
    scale: of the number of combinations; there are no more than all.
    folder: not needed.

  Returns:
    In how many each example came once: in each epoch of a training that stops
    and goes on in other numbers of processes, and in an evaluation.
  """
  del folder
  rng = random.Random(seed)
  task = benchmarks.create(**digits.get_config().task)
  source = task.source(task.train_split, None)
  combinations = [
    (size, count, share)
    for size, count, share in itertools.product(SIZES, PROCESSES, PER_PROCESS)
    if size <= MOST * count * share
  ]
  number = max(1, round(min(scale, 1.0) * len(combinations)))
  some = sorted(rng.sample(combinations, number))
  for name, problem in (
    ('a training that goes on in other numbers', _training_problem),
    ('an evaluation', _evaluation_problem),
  ):
    yield _try(name, problem, task, source, some, rng)


def _try(
  name: str,
  problem: Callable[[Task, Sequence[Any], int, int, random.Random], str],
  task: Task,
  source: Sequence[Any],
  combinations: list[tuple[int, int, int]],
  rng: random.Random,
) -> Outcome:
  lost, note = 0, ''
  for size, count, share in combinations:
    found = problem(task, source[:size], count, share, rng)
    lost += bool(found)
    if found:
      note = note or f'{size} examples, {count} × {share}: {found}'
  tried = len(combinations)
  return Outcome(
    f'shares: {name}',
    tried,
    tried - lost,
    lost,
    note or 'each example once, and no other',
  )


def _training_problem(
  task: Task,
  source: Sequence[Any],
  count: int,
  share: int,
  rng: random.Random,
) -> str:
  """What is wrong with some epochs of a run that stops twice; '': nothing."""
  numbers = [count, rng.choice(PROCESSES), rng.choice(PROCESSES)]
  wanted = EPOCHS * len(source)
  stream: list[int] = []
  for i, processes in enumerate(numbers):
    batch_size = processes * share
    left = -(-(wanted - len(stream)) // batch_size)
    steps = left if i == len(numbers) - 1 else rng.randint(0, max(0, left))
    stream += _train(
      task, source, processes, batch_size, len(stream), max(0, steps)
    )
  for epoch in range(EPOCHS):
    seen = stream[epoch * len(source) : (epoch + 1) * len(source)]
    if sorted(seen) != _indices(source):
      return f'epoch {epoch} of a run in {numbers} processes has {seen}'
  # In whatever number of processes, the order is the same.
  if stream != _train(task, source, 1, len(stream), 0, 1):
    return f'in {numbers} processes the order is another than in one'
  return ''


def _train(
  task: Task,
  source: Sequence[Any],
  processes: int,
  batch_size: int,
  position: int,
  steps: int,
) -> list[int]:
  """The examples of some steps, as dealt to the processes in turn."""
  dealt = [
    pipeline.train_batches(
      task,
      source,
      batch_size=batch_size,
      seed=0,
      position=position,
      process_index=process,
      process_count=processes,
    )
    for process in range(processes)
  ]
  seen: list[int] = []
  for _ in range(steps):
    shares = [next(batches) for batches in dealt]
    if not all(batch['mask'].all() for batch in shares):
      raise ValueError('An example is masked out in training.')
    # Example i of all is example i // processes of process i % processes.
    seen += np.stack([x['index'] for x in shares], axis=1).ravel().tolist()
  for batches in dealt:
    batches.close()
  return seen


def _evaluation_problem(
  task: Task,
  source: Sequence[Any],
  count: int,
  share: int,
  rng: random.Random,
) -> str:
  """What is wrong with an evaluation in some processes; '': nothing."""
  del rng
  dealt = [
    list(
      pipeline.eval_batches(
        task,
        source,
        batch_size=count * share,
        process_index=process,
        process_count=count,
      )
    )
    for process in range(count)
  ]
  if len({len(batches) for batches in dealt}) != 1:
    return f'{[len(batches) for batches in dealt]} batches'  # Some would wait.
  batches = [batch for part in dealt for batch in part]
  for name, wanted in (
    ('index', _indices(source)),
    ('record', list(range(len(source)))),
  ):
    seen = np.concatenate([batch[name][batch['mask']] for batch in batches])
    if sorted(seen.tolist()) != wanted:
      return f'{name} {sorted(seen.tolist())}'
  return ''


def _indices(source: Sequence[Any]) -> list[int]:
  return sorted(int(record['index']) for record in source)
