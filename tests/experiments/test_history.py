"""A run's history tells where its time went."""

import numpy as np
import pytest

from experiments import history


def test_time_is_shared_out():
  launch = lambda seconds: {'time': history.iso(seconds)}
  record = lambda seconds, step, split='train': {
    'time': seconds,
    'step': step,
    'split': split,
    'loss': 1.0,
  }
  run = history.History(
    workdir='run',
    config={'train': {'batch_size': 8, 'log_every': 10}},
    launches=[launch(0), launch(100)],
    endings=[],
    metrics=[
      record(20, 10),  # 10 s to start, then 10 steps of a second.
      record(30, 20),
      record(34, 20, 'test'),
      record(44, 30),  # Then killed; 12 s to start again.
      record(122, 40),
      record(132, 50),
    ],
    skipped={},
    skipped_steps={},
    predictions={},
    average_precision=[],
    total_steps=50,
    problems=[],
  )
  assert run.time_shares() == pytest.approx(
    {
      history.TRAINING: 10 + 10 + 10 + 10 + 10,
      history.EVALUATION: 4,
      history.STARTING: 10 + 12,
      history.LOST: 56,
    }
  )
  assert run.throughput() == [(20, 8.0), (30, 8.0), (50, 8.0)]
  assert run.last_step == 50
  assert np.isclose(sum(run.time_shares().values()), 132)
