"""The order of the data: each example once per epoch, wherever a run starts."""

import contextlib
import itertools
import multiprocessing
from multiprocessing import resource_tracker, util
import os
import re
import signal
import threading

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from configs import digits
from experiments import pipeline, telemetry
from experiments.benchmarks.digits import Digits
from experiments.errors import (
  DamagedDataError,
  DamagedRecordError,
  WorkersDiedError,
)

BATCH = 64


def create(kind=Digits, **settings):
  config = dict(digits.get_config().task) | settings
  del config['name']
  return kind(**config)


@pytest.fixture(scope='module')
def task():
  return create()


@pytest.fixture(scope='module')
def source(task):
  return task.source('train', None)


def train(task, source, count, **settings):
  settings = {'batch_size': BATCH, 'seed': 3} | settings
  batches = pipeline.train_batches(task, source, **settings)
  return list(itertools.islice(batches, count))


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


class Deadly(Digits):
  """Has a record that kills the process that decodes it."""

  def eval_example(self, record):
    if record['index'] == 30:
      os._exit(7)
    return super().eval_example(record)


@pytest.mark.slow
def test_a_record_that_kills_workers_ends_the_run(source):
  batches = pipeline.eval_batches(
    create(Deadly), records(source, 40), batch_size=20, num_workers=1
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


class Damaged(Digits):
  """Cannot decode two of the digits."""

  def eval_example(self, record):
    if record['index'] in (3, 5):
      raise DamagedRecordError(f'digit {record["index"]} is broken')
    return super().eval_example(record)


@pytest.fixture(scope='module')
def damaged():
  return create(Damaged)


def records(source, count):
  return [{**source[i], 'index': np.int32(i)} for i in range(count)]


def test_damaged_records_are_masked_named_and_counted(damaged, source, caplog):
  few = records(source, 40)
  batches = train(damaged, few, 4, batch_size=20, max_damaged=0.05)
  for epoch in (batches[:2], batches[2:]):
    masks = np.concatenate([b['mask'] for b in epoch])
    images = np.concatenate([b['image'] for b in epoch])
    assert masks.sum() == 38
    assert not images[~masks].any()
  named = [m for m in caplog.messages if 'is broken' in m]
  assert len(named) == 2  # Each once, although there are two epochs.
  assert any('record 3 of 40' in m and 'digit 3' in m for m in named)
  assert not any('damaged' in batch for batch in batches)


def test_evaluation_leaves_damaged_records_out(damaged, source):
  told = []
  batches = list(
    pipeline.eval_batches(
      damaged,
      records(source, 40),
      batch_size=16,
      max_damaged=0.05,
      on_damaged=lambda *args: told.append(args) or len(told),
    )
  )
  left = np.concatenate([b['record'][b['mask']] for b in batches])
  assert left.tolist() == [i for i in range(40) if i not in (3, 5)]
  assert told == [(3, 'digit 3 is broken'), (5, 'digit 5 is broken')]


def test_too_many_damaged_records_end_the_run(damaged, source):
  batches = pipeline.eval_batches(
    damaged, records(source, 40), batch_size=8, max_damaged=0.049
  )
  with pytest.raises(DamagedDataError, match=r'2 of 40 .* digit 5 is broken'):
    list(batches)


def test_damaged_records_count_over_all_processes(
  damaged, source, tmp_path, monkeypatch
):
  """Each of four processes meets at most one."""
  monkeypatch.setattr(jax, 'process_count', lambda: 4)

  def evaluate(process):
    monkeypatch.setattr(jax, 'process_index', lambda: process)
    return list(
      pipeline.eval_batches(
        damaged,
        records(source, 40),
        batch_size=16,
        max_damaged=0.049,
        process_index=process,
        process_count=4,
        on_damaged=telemetry.DamagedRecords(str(tmp_path), 'test').add,
      )
    )

  for process in (0, 1, 2, 1):  # Repeating an evaluation counts nothing twice.
    evaluate(process)
  telemetry.record_skipped(str(tmp_path), 'train', 5, 'of another split')
  with pytest.raises(DamagedDataError, match=r'2 of 40 .*skipped_.* digit 3'):
    evaluate(3)
  assert set(telemetry.read_skipped(str(tmp_path))) == {
    *(('test', 3), ('test', 5), ('train', 5))
  }


def test_damaged_records_count_over_all_launches(damaged, source, tmp_path):
  """Each launch begins where the one before was stopped."""
  position = 0

  def launch():
    nonlocal position
    known = telemetry.DamagedRecords(str(tmp_path), 'train')
    batches = pipeline.train_batches(
      damaged,
      records(source, 40),
      batch_size=1,
      seed=3,
      position=position,
      max_damaged=0.049,
      on_damaged=known.add,
    )
    with contextlib.closing(batches):
      for batch in batches:
        position += 1
        if not batch['mask'].all():
          return

  launch()
  with pytest.raises(DamagedDataError, match='2 of 40 records are damaged'):
    launch()
  assert position < 40  # Within an epoch.
  path = tmp_path / 'skipped_0.jsonl'
  assert len(path.read_text().splitlines()) == 2
  path.unlink()  # The data is mended.
  position = 0
  launch()


class DamagedInTraining(Digits):
  """Cannot augment a digit that can be evaluated."""

  def train_example(self, record, rng):
    example = super().train_example(record, rng)
    if record['index'] == 3:
      raise DamagedRecordError(f'frame {rng.integers(10)}: ü is broken')
    return example


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_the_reason_is_that_of_the_decoding_that_failed(
  source, workers, caplog
):
  told = []
  batches = train(
    create(DamagedInTraining),
    records(source, 40),
    2,
    batch_size=20,
    max_damaged=0.05,
    num_workers=workers,
    on_damaged=lambda *args: told.append(args) or len(told),
  )
  assert sum(batch['mask'].sum() for batch in batches) == 39
  ((index, reason),) = told
  assert index == 3
  assert re.fullmatch(r'frame \d: ü is broken', reason)
  assert (
    f'Skipped record 3 of 40, damaged record no. 1: {reason}' in caplog.text
  )
