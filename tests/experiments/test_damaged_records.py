"""Damaged records: they are masked, named and counted, up to a limit."""

import contextlib
import re

import jax
import numpy as np
import pytest

from experiments import pipeline, telemetry
from experiments.benchmarks.digits import Digits
from experiments.errors import DamagedDataError, DamagedRecordError
from tests.experiments.streams import create, records, train


class Damaged(Digits):
  """Cannot decode two of the digits."""

  def eval_example(self, record):
    if record['index'] in (3, 5):
      raise DamagedRecordError(f'digit {record["index"]} is broken')
    return super().eval_example(record)


@pytest.fixture(scope='module')
def damaged():
  return create(Damaged)


class DamagedPairs(Damaged):
  """Mixes two examples into one."""

  num_mixed = 2


@pytest.mark.parametrize(('kind', 'size'), [(Damaged, 20), (DamagedPairs, 10)])
def test_damaged_records_are_masked_named_and_counted(kind, size, caplog):
  few = records(40)
  batches = train(create(kind), few, 4, batch_size=size, max_damaged=0.05)
  for epoch in (batches[:2], batches[2:]):
    masks = np.concatenate([b['mask'] for b in epoch])
    images = np.concatenate([b['image'] for b in epoch])
    assert masks.sum() == 38
    assert not images[~masks].any()
  named = [m for m in caplog.messages if 'is broken' in m]
  assert len(named) == 2  # Each once, although there are two epochs.
  assert any('record 3 of 40' in m and 'digit 3' in m for m in named)
  assert not any('damaged' in batch for batch in batches)


def test_evaluation_leaves_damaged_records_out(damaged):
  told = []
  batches = list(
    pipeline.eval_batches(
      damaged,
      records(40),
      batch_size=16,
      max_damaged=0.05,
      on_damaged=lambda *args: told.append(args) or len(told),
    )
  )
  left = np.concatenate([b['record'][b['mask']] for b in batches])
  assert left.tolist() == [i for i in range(40) if i not in (3, 5)]
  assert told == [(3, 'digit 3 is broken'), (5, 'digit 5 is broken')]


def test_too_many_damaged_records_end_the_run(damaged):
  batches = pipeline.eval_batches(
    damaged, records(40), batch_size=8, max_damaged=0.049
  )
  with pytest.raises(DamagedDataError, match=r'2 of 40 .* digit 5 is broken'):
    list(batches)


def test_damaged_records_count_over_all_processes(
  damaged, tmp_path, monkeypatch
):
  """Each of four processes meets at most one."""
  monkeypatch.setattr(jax, 'process_count', lambda: 4)

  def evaluate(process):
    monkeypatch.setattr(jax, 'process_index', lambda: process)
    return list(
      pipeline.eval_batches(
        damaged,
        records(40),
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


def test_damaged_records_count_over_all_launches(damaged, tmp_path):
  """Each launch begins where the one before was stopped."""
  position = 0

  def launch():
    nonlocal position
    known = telemetry.DamagedRecords(str(tmp_path), 'train')
    batches = pipeline.train_batches(
      damaged,
      records(40),
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
def test_the_reason_is_that_of_the_decoding_that_failed(workers, caplog):
  told = []
  batches = train(
    create(DamagedInTraining),
    records(40),
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
