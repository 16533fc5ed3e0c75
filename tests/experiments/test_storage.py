"""Runs in a store of objects, which an emulator stands for."""

import types

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from experiments import (
  compilation_cache,
  metrics,
  saved,
  storage,
  telemetry,
  train,
)
from scripts import attention_maps, export, report
from scripts.paper import runs
from tests import commands
from tests.experiments.smoke import (
  checkpoints,
  create,
  final_params,
  latest,
  losses,
  starts,
  told_to_stop,
)


@pytest.fixture(scope='module')
def run(store, trained):
  """The smoke run in the store, launched twice; no test changes it."""
  ours, workdir = trained[0], store.url('run')
  # It asks after each step, and three times in the evaluation after step 10.
  with told_to_stop(15, 'at step 12 of 20'):
    train.train(ours, workdir)
  return ours, workdir, train.train(ours, workdir)


@pytest.mark.slow
def test_a_run_in_a_store_is_that_on_a_disk(run, trained):
  ours, workdir, metrics = run
  _, on_disk, metrics_on_disk = trained
  assert metrics == {'test': metrics_on_disk}
  for split in ('train', 'test'):
    assert losses(workdir, split) == losses(on_disk, split)
  jax.tree.map(
    np.testing.assert_array_equal,
    final_params(ours, workdir),
    final_params(ours, on_disk),
  )
  assert {
    path.name.partition('.out.')[0] for path in storage.path(workdir).iterdir()
  } == {
    *('checkpoints', 'predictions_test.npz', 'events', telemetry.METRICS),
    *(telemetry.CONFIG, telemetry.CLASSES),
    *(telemetry.LAUNCHES, telemetry.ENDINGS),
  }
  endings = telemetry.read_records(workdir, telemetry.ENDINGS)
  assert [x['reason'][:12] for x in endings] == ['Told to stop', 'finished']
  assert starts(workdir) == [0, 12]


@pytest.mark.slow
def test_it_is_evaluated_and_looked_at_there(run, tmp_path):
  ours, workdir, metrics = run
  assert saved.evaluate_checkpoint(ours, workdir) == metrics
  maps = attention_maps.write(workdir, examples=[3])
  assert [str(x) for x in maps] == [f'{workdir}/attention_maps/test_3.png']
  assert maps[0].read_bytes().startswith(b'\x89PNG')
  page = report.write([workdir], num_maps=0, num_mistakes=2)
  assert str(page) == f'{workdir}/report.html'
  assert f'{100 * metrics["test"]["top1"]:.2f} %' in page.read_text()
  assert runs.read_run(workdir).evaluations
  export.export(workdir, str(tmp_path / 'out'))
  assert (tmp_path / 'out' / 'config.json').exists()


def events(path):
  """Yields the events of TensorBoard's file: lengths, records, sums."""
  data = path.read_bytes()
  while data:
    size = int.from_bytes(data[:8], 'little')
    yield event_pb2.Event.FromString(data[12 : 12 + size])
    data = data[size + 16 :]


@pytest.mark.slow
def test_tensorboard_finds_both_launches(run):
  paths = sorted(storage.path(run[1]).glob('events.out.tfevents.*'))
  read = [event for path in paths for event in events(path)]
  # The event that a launch begins with hides later steps of earlier launches.
  start = event_pb2.SessionLog.START
  starts = [x.step for x in read if x.session_log.status == start]
  assert starts == [1, 13]
  values = [
    event.summary.value[0].simple_value
    for event in read
    if event.summary.value and event.summary.value[0].tag == 'train/loss'
  ]
  np.testing.assert_allclose(values, losses(run[1]), rtol=1e-6)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_moved_aside(run, store):
  workdir = storage.path(store.url('damaged'))
  for path in storage.files(storage.path(run[1]) / 'checkpoints'):
    target = workdir / path.relative_to(run[1])
    storage.write(target, path.read_bytes())
  arrays = storage.files(workdir / 'checkpoints' / '20' / 'state' / 'd')
  storage.write(arrays[0], arrays[0].read_bytes()[:-1])
  assert latest(workdir) == 15
  assert not (workdir / 'damaged').exists()
  with checkpoints(workdir, read_only=False) as writer:
    assert writer.step('latest') == 15
    assert not (workdir / 'checkpoints' / '20').exists()
    there = len(storage.files(storage.path(run[1]) / 'checkpoints' / '20'))
    assert len(storage.files(workdir / 'damaged' / '20')) == there


def test_what_is_appended_waits_for_a_flush(store, monkeypatch):
  path = storage.path(store.url('appended/a.jsonl'))
  writes = []
  write = storage.write
  monkeypatch.setattr(
    storage, 'write', lambda *x: (writes.append(x), write(*x))
  )
  for i in range(3):
    telemetry.append(path, f'{i}\n')
  assert not path.exists()
  telemetry.flush()
  telemetry.append(path, '3\n')
  telemetry.flush()
  telemetry.flush()
  assert path.read_text() == '0\n1\n2\n3\n'
  assert len(writes) == 2


def test_rewriting_takes_its_share_of_the_time(tmp_path, monkeypatch):
  now, took, flushed = 0.0, 0.0, []

  def flush():
    nonlocal now
    now += took
    flushed.append(now)

  clock = types.SimpleNamespace(monotonic=lambda: now, time=lambda: now)
  monkeypatch.setattr(metrics, 'time', clock)
  monkeypatch.setattr(telemetry, 'flush', flush)
  sizes = {'total_steps': 9, 'batch_size': 1, 'num_examples': 1}
  writer = metrics.MetricsWriter(str(tmp_path), start_step=0, **sizes)
  for seconds, wait in ((0.01, 10), (3.0, 300)):
    took = seconds
    writer.flush()
    flushed.clear()
    for elapsed, is_flushed in ((wait - 0.5, False), (1.0, True)):
      now += elapsed
      writer.write(1, 'train', {'loss': 1.0})
      assert bool(flushed) == is_flushed
  writer.close()


@pytest.mark.parametrize(
  ('there', 'records'),
  [
    ('{"a": 1}\n{"a"', [{'a': 1}, {'a': 2}]),
    ('{', [{'a': 2}]),  # A single byte.
    ('\n', [{'a': 2}]),
    ('', [{'a': 2}]),
  ],
)
def test_a_line_that_was_cut_off_spoils_no_other(tmp_path, there, records):
  path = storage.path(tmp_path / 'a.jsonl')
  path.write_text(there)
  assert telemetry.read_records(str(tmp_path), 'a.jsonl') == records[:-1]
  telemetry.append(path, '{"a": 2}\n')
  assert telemetry.read_records(str(tmp_path), 'a.jsonl') == records


def test_compiled_programs_are_kept_there(store, own_cache):
  compilation_cache.use(store.url('programs'), 'cache')
  jax.jit(lambda x: x + 1)(1.0)
  paths = storage.files(storage.path(store.url('programs/cache')))
  assert any(path.name.endswith('-cache') for path in paths)


@pytest.mark.parametrize(
  ('workdir', 'place', 'directory'),
  [
    ('gs://runs/a', 'cache', 'gs://runs/a/cache'),
    ('gs://runs/a', '/cache', '/cache'),
    ('/a', 'gs://runs/cache', 'gs://runs/cache'),
    ('a', 'cache', 'a/cache'),
  ],
)
def test_programs_and_runs_need_not_be_together(
  store, workdir, place, directory
):
  found = compilation_cache._directory(workdir, place)
  assert str(found) == directory


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('gs://nobodys/run', 'There is no bucket gs://nobodys'),
    ('ftp://runs/run', 'ftp://runs: only stores at'),
    ('s3://runs/run', 's3://runs is read with a package'),
  ],
)
def test_a_store_that_cannot_be_used_is_one_error(store, name, message):
  with pytest.raises(OSError, match=message):
    train.train(create(), name)


def test_without_gcsfs_it_is_one_error():
  code = (
    'import sys; sys.modules["gcsfs"] = None;'
    ' from experiments import storage; storage.path("gs://runs/run")'
  )
  said = commands.python('-c', code).stderr
  assert 'OSError: gs://runs is read with' in said
  assert "pip install -e '.[gcs]'" in said
