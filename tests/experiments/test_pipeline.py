"""The order of the data: each example once per epoch, wherever a run starts."""

import contextlib
import itertools
import multiprocessing
from multiprocessing import resource_tracker, util
import os
import signal
import threading
import time

import grain
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from experiments import data_workers, pipeline
from experiments.benchmarks.digits import Digits
from experiments.errors import WorkersDiedError
from tests.experiments.streams import BATCH, create, records, train


@pytest.fixture(scope='module')
def task():
  return create()


@pytest.fixture(scope='module')
def source(task):
  return task.source('train', None)


def indices(source):
  return sorted(int(record['index']) for record in source)


def test_the_split_is_fixed_and_disjoint(task, source):
  test = task.source('test', None)
  indices = [r['index'] for r in (*source, *test)]
  assert (len(source), len(test)) == (1437, 360)
  assert sorted(indices) == list(range(1797))
  assert task.num_examples('train') == len(source)
  assert task.num_examples('test') == len(test)


def test_examples_have_the_announced_shapes(task, source):
  rng = np.random.default_rng(0)
  for example in (
    task.train_example(source[0], rng),
    task.eval_example(source[0]),
  ):
    spec = task.example_spec()
    assert {k: (x.shape, x.dtype) for k, x in example.items()} == {
      k: (x.shape, x.dtype) for k, x in spec.items()
    }


def test_augmentation_is_mild_and_centred(task, source):
  """Without shift, rotation and scaling, an image does not change."""
  still = create(max_shift=0.0, max_rotation=0.0, max_scaling=0.0)
  rng = np.random.default_rng(0)
  plain = task.eval_example(source[0])['image']
  np.testing.assert_allclose(
    still.train_example(source[0], rng)['image'], plain, atol=1e-6
  )
  moved = [task.train_example(source[0], rng)['image'] for _ in range(200)]
  assert np.abs(moved[0] - moved[1]).max() > 0.01
  # On average the ink stays where it is, to a tenth of a pixel.
  rows, columns = np.mgrid[:8, :8]
  ink = np.mean(moved, axis=0)[..., 0] + 1
  for place in (rows, columns):
    drift = np.average(place, weights=ink) - np.average(
      place, weights=plain[..., 0] + 1
    )
    assert abs(drift) < 0.1


def assert_same(batches, others):
  for batch, other in zip(batches, others, strict=True):
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name])


COUNTS = st.integers(1, 8)


@settings(max_examples=10, deadline=None)
@given(
  st.integers(1, 101), st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1)
)
def test_launches_in_any_numbers_of_processes_share_one_stream(
  task, size, launches
):
  some = task.source('train', None)[:size]
  batches, position = [], 0
  for steps, processes, share in launches[:3]:
    batch_size = processes * share
    parts = [
      train(
        *(task, some, steps),
        batch_size=batch_size,
        position=position,
        process_index=i,
        process_count=processes,
      )
      for i in range(processes)
    ]
    # Example i of a batch is example i // processes of process i % processes.
    batches += jax.tree.map(lambda *x: np.stack(x, axis=1), *parts)
    position += steps * batch_size
  stream = {
    name: np.concatenate(
      [x[name].reshape(-1, *x[name].shape[2:]) for x in batches]
    )
    for name in batches[0]
  }
  assert_same([stream], train(task, some, 1, batch_size=position))
  for start in range(0, position - size + 1, size):
    assert sorted(stream['index'][start : start + size]) == indices(some)


class Paired(Digits):
  """Makes one example of two, as mixing with another batch does."""

  num_mixed = 2


@pytest.mark.parametrize('start', [0, 3])
def test_pairs_follow_each_other_in_the_stream_in_any_launch(task, start):
  """Partners are the same for any processes, batches and places of a resume."""
  some, position, pairs = records(11), start, []
  for steps, processes, share in ((2, 1, 3), (3, 2, 2), (1, 4, 1)):
    parts = [
      train(
        *(create(Paired), some, steps),
        batch_size=processes * share,
        position=position,
        process_index=i,
        process_count=processes,
      )
      for i in range(processes)
    ]
    for batches in zip(*parts, strict=True):
      # Pair i of a batch is pair i // processes of process i % processes.
      rows = [batch['image'].reshape(share, 2, 8, 8) for batch in batches]
      pairs += [*np.stack(rows, axis=1).reshape(-1, 8, 8)]
    position += 2 * steps * processes * share
  (stream,) = train(task, some, 1, batch_size=position)
  np.testing.assert_array_equal(pairs, stream['image'][start:, ..., 0])


def test_epochs_and_seeds_have_their_own_order_and_augmentation(task, source):
  batches = train(task, source, 46)
  order, images = (
    np.concatenate([batch[name] for batch in batches])
    for name in ('index', 'image')
  )
  epochs = order[: 2 * len(source)].reshape(2, -1)
  assert (epochs[0] != epochs[1]).any()
  first, second, *_ = images[order == source[0]['index']]
  assert np.abs(first - second).max() > 0
  (other,) = train(task, source, 1, seed=4)
  assert (other['index'] != order[:BATCH]).any()


class WithProcess(Digits):
  """Adds the number of the process that made an example."""

  def eval_example(self, record):
    return {**super().eval_example(record), 'process': np.int64(os.getpid())}


def test_worker_processes_change_nothing_but_who_works(source):
  """Signals that Slurm and terminals send to all change nothing, either."""
  task = create(WithProcess)
  threads = train(task, source, 20, position=64)
  others = set(multiprocessing.active_children())
  batches = pipeline.train_batches(
    task, source, batch_size=BATCH, seed=3, position=64, num_workers=2
  )
  with contextlib.closing(batches):
    processes = [next(batches)]
    workers = set(multiprocessing.active_children()) - others
    for worker, number in itertools.product(
      workers, (signal.SIGTERM, signal.SIGINT)
    ):
      os.kill(worker.pid, number)
    processes += itertools.islice(batches, 19)  # More than buffers hold.
  assert {int(x) for b in threads for x in b.pop('process')} == {os.getpid()}
  pids = {int(x) for b in processes for x in b.pop('process')}
  assert pids == {worker.pid for worker in workers}
  assert len(pids) == 2
  assert not any(worker.is_alive() for worker in workers)
  assert_same(threads, processes)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('batches', 'settings'),
  [
    (pipeline.train_batches, {'seed': 3, 'position': 64}),
    (pipeline.eval_batches, {}),
  ],
)
def test_workers_that_die_are_replaced(task, source, caplog, batches, settings):
  others = set(multiprocessing.active_children())
  start = lambda workers: contextlib.closing(
    batches(task, source, batch_size=BATCH, num_workers=workers, **settings)
  )
  with start(0) as undisturbed, start(2) as disturbed:
    found = [*itertools.islice(disturbed, 3)]
    for worker in set(multiprocessing.active_children()) - others:
      worker.kill()
    found += itertools.islice(disturbed, 4)
    assert_same(itertools.islice(undisturbed, 7), found)
  assert 'with exit code -9' in caplog.text
  assert 'They are started again.' in caplog.text


def test_workers_that_do_not_end_are_killed(monkeypatch, caplog):
  """A killed one may have held the lock that Grain needs to end the others."""
  ended = threading.Event()

  class Batches:
    def __init__(self, fails):
      self.fails = fails
      self.items = self.make()

    def make(self):
      yield {'x': 1}
      if self.fails:
        raise RuntimeError(f'A {data_workers._DEATH}.')

    def __iter__(self):
      return self.items

    def close(self):
      if self.fails:
        ended.wait()

  worker = multiprocessing.get_context('spawn').Process(
    target=time.sleep, args=(600,)
  )
  worker.start()
  iterators = iter([Batches(fails=True), Batches(fails=False)])
  monkeypatch.setattr(data_workers, '_iterate', lambda *_: next(iterators))
  monkeypatch.setattr(data_workers, 'CLOSE_SECONDS', 0.1)
  examples = grain.MapDataset.range(4)
  assert len([*data_workers.read(examples, 1, 2)]) == 2
  assert 'have not ended in 0.1 s, and are killed' in caplog.text
  worker.join()
  assert worker.exitcode == -signal.SIGKILL
  ended.set()


class Deadly(Digits):
  """Has a record that kills the process that decodes it."""

  def eval_example(self, record):
    if record['index'] == 30:
      os._exit(7)
    return super().eval_example(record)


@pytest.mark.slow
def test_a_record_that_kills_workers_ends_the_run():
  batches = pipeline.eval_batches(
    create(Deadly), records(40), batch_size=20, num_workers=1
  )
  with pytest.raises(WorkersDiedError, match=r'died 3 times .* exit code 7'):
    list(batches)


@pytest.mark.slow
def test_a_signal_as_workers_start_stops_nothing(task, source, monkeypatch):
  resource_tracker.ensure_running()
  spawn = util.spawnv_passfds

  def spawn_and_signal(path, arguments, descriptors):
    pid = spawn(path, arguments, descriptors)
    # Before it has read its task, each gets another signal.
    os.kill(pid, (signal.SIGTERM, signal.SIGINT)[len(signalled)])
    signalled.append(pid)
    return pid

  signalled = []
  monkeypatch.setattr(util, 'spawnv_passfds', spawn_and_signal)
  threads = train(task, source, 3)
  processes = []
  thread = threading.Thread(
    target=lambda: processes.extend(train(task, source, 3, num_workers=2)),
    daemon=True,
  )
  thread.start()
  thread.join(timeout=300)  # It hangs if a signal ends a worker.
  assert len(signalled) == 2
  assert_same(threads, processes)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 101), COUNTS, COUNTS)
def test_evaluation_counts_every_example_once(task, size, processes, share):
  some = task.source('test', None)[:size]
  parts = [
    list(
      pipeline.eval_batches(
        task,
        some,
        batch_size=processes * share,
        process_index=i,
        process_count=processes,
      )
    )
    for i in range(processes)
  ]
  assert len({len(part) for part in parts}) == 1  # None waits for another.
  batches = [batch for part in parts for batch in part]
  seen = lambda name: sorted(
    np.concatenate([x[name][x['mask']] for x in batches])
  )
  assert seen('index') == indices(some)
  assert seen('record') == list(range(size))
