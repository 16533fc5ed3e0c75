"""Runs and data in a store of objects, one that may fail; see emulator.py."""

import json
import os
import subprocess
import sys
import threading
import time

import aiohttp
import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from experiments import (
  checkpoint,
  compilation_cache,
  google_storage,
  preemption,
  saved,
  storage,
  telemetry,
  train,
)
from experiments.benchmarks.audioset import source as audioset
from experiments.benchmarks.imagenet import source as imagenet
from experiments.benchmarks.modelnet40 import preparation
from experiments.benchmarks.modelnet40 import source as modelnet40
from experiments.errors import DataNotFoundError
from scripts import attention_maps, export, report, tables
from scripts.torturing import faulty_proxy
from tests.benchmarks.audioset.test_source import record
from tests.benchmarks.modelnet40.archives import meshes, TINY, write_zip
from tests.conftest import ROOT
from tests.experiments.smoke import create, final_params, losses

STEPS = {'train.steps': 4, 'train.eval_every': 2}


@pytest.fixture(scope='module')
def run(store):
  """A run in the store that was launched twice, and changed by no test."""
  workdir = store.url('run')
  ours = create(**STEPS)
  with pytest.MonkeyPatch.context() as patch:
    # Between the steps 2 and 3, the evaluation in between asks twice.
    told = iter([False] * 4 + [True])
    patch.setattr(preemption, 'is_told_to_stop', lambda: next(told))
    with pytest.raises(preemption.PreemptedError, match='at step 2 of 4'):
      train.train(ours, workdir)
  return ours, workdir, train.train(ours, workdir)


def test_a_run_in_a_store_is_that_on_a_disk(run, tmp_path):
  ours, workdir, metrics = run
  assert metrics == train.train(create(**STEPS), str(tmp_path))
  assert losses(workdir) == losses(tmp_path)
  jax.tree.map(
    np.testing.assert_array_equal,
    final_params(ours, workdir),
    final_params(ours, tmp_path),
  )
  names = lambda folder: {
    path.name.partition('.out.')[0] for path in storage.path(folder).iterdir()
  }
  assert names(workdir) == names(str(tmp_path))
  endings = telemetry.read_records(workdir, telemetry.ENDINGS)
  launches = telemetry.read_records(workdir, telemetry.LAUNCHES)
  assert [x['reason'][:12] for x in endings] == ['Told to stop', 'finished']
  assert [x['start_step'] for x in launches] == [0, 2]


def test_it_is_evaluated_and_looked_at_there(run, tmp_path):
  ours, workdir, metrics = run
  assert saved.evaluate_checkpoint(ours, workdir) == metrics
  maps = attention_maps.write(workdir, examples=[3])
  assert [str(x) for x in maps] == [f'{workdir}/attention_maps/test_3.png']
  assert maps[0].read_bytes().startswith(b'\x89PNG')
  page = report.write([workdir], num_maps=0, num_mistakes=2)
  assert str(page) == f'{workdir}/report.html'
  assert f'{100 * metrics["test"]["top1"]:.2f} %' in page.read_text()
  assert tables.read_run(workdir).evaluations
  export.export(workdir, str(tmp_path / 'out'))
  assert (tmp_path / 'out' / 'config.json').exists()


def events(path):
  """Of a file of TensorBoard's: records between lengths and sums."""
  data = path.read_bytes()
  while data:
    size = int.from_bytes(data[:8], 'little')
    yield event_pb2.Event.FromString(data[12 : 12 + size])
    data = data[size + 16 :]


def test_tensorboard_finds_both_launches(run):
  paths = sorted(storage.path(run[1]).glob('events.out.tfevents.*'))
  read = [event for path in paths for event in events(path)]
  # What a launch begins with hides the steps of an earlier one from there on.
  start = event_pb2.SessionLog.START
  starts = [x.step for x in read if x.session_log.status == start]
  assert starts == [1, 3]
  values = [
    event.summary.value[0].simple_value
    for event in read
    if event.summary.value and event.summary.value[0].tag == 'train/loss'
  ]
  np.testing.assert_allclose(values, losses(run[1]), rtol=1e-6)


def test_a_damaged_checkpoint_is_moved_aside(run, store):
  workdir = storage.path(store.url('damaged'))
  for path in storage.files(storage.path(run[1]) / 'checkpoints'):
    target = workdir / path.relative_to(run[1])
    storage.write(target, path.read_bytes())
  arrays = storage.files(workdir / 'checkpoints' / '4' / 'state' / 'd')
  storage.write(arrays[0], arrays[0].read_bytes()[:-1])
  reader = checkpoint.Checkpoints(
    str(workdir), best_metric='top1', keep=2, read_only=True
  )
  assert reader.step('latest') == 2
  reader.close()
  assert not (workdir / 'damaged').exists()
  writer = checkpoint.Checkpoints(
    str(workdir), best_metric='top1', keep=2, read_only=False
  )
  assert writer.step('latest') == 2
  assert not (workdir / 'checkpoints' / '4').exists()
  there = len(storage.files(storage.path(run[1]) / 'checkpoints' / '4'))
  assert len(storage.files(workdir / 'damaged' / '4')) == there
  writer.close()


def test_what_is_appended_waits_for_a_flush(store, monkeypatch):
  path = storage.path(store.url('appended/a.jsonl'))
  writes = []
  write = storage.write
  monkeypatch.setattr(
    storage, 'write', lambda *x: (writes.append(x), write(*x))
  )
  for i in range(3):
    storage.append(path, f'{i}\n')
  assert not path.exists()
  storage.flush()
  storage.append(path, '3\n')
  storage.flush()
  storage.flush()
  assert path.read_text() == '0\n1\n2\n3\n'
  assert len(writes) == 2


def test_rewriting_takes_its_share_of_the_time(monkeypatch):
  now = 0.0
  monkeypatch.setattr(storage.time, 'monotonic', lambda: now)
  pace = storage.Pace()
  for took, wait in ((0.01, 10), (3, 300)):
    pace.took(took)
    now += wait - 0.5
    assert not pace.is_due()
    now += 1
    assert pace.is_due()


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
  path = storage.path(tmp_path / 'a.jsonl')
  path.write_text('{"a": 1}\n{"a"')
  storage.append(path, '{"a": 2}\n')
  assert telemetry.read_records(str(tmp_path), 'a.jsonl') == [
    {'a': 1},
    {'a': 2},
  ]


CACHES = """
import jax
from experiments import compilation_cache

compilation_cache.use('gs://runs/programs', 'cache')
jax.jit(lambda x: x + 1)(1.0)
"""


def python(code, **environment):
  """Standard error of a process."""
  options = {'cwd': ROOT, 'capture_output': True, 'text': True}
  environment = {**os.environ, **environment}
  command = [sys.executable, '-c', code]
  return subprocess.run(command, env=environment, **options).stderr


def test_compiled_programs_are_kept_there(store):
  python(CACHES, JAX_COMPILATION_CACHE_DIR='')
  folder = storage.path(store.url('programs/cache'))
  paths = storage.files(folder)
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
    ('ftp://runs/run', 'ftp://runs: of stores, only'),
    ('s3://runs/run', 's3://runs is read with a package'),
  ],
)
def test_a_store_that_cannot_be_used_is_one_error(store, name, message):
  with pytest.raises(OSError, match=message):
    train.train(create(**STEPS), name)


def test_without_gcsfs_it_is_one_error():
  code = 'from experiments import storage; storage.path("gs://runs/run")'
  said = python(f'import sys; sys.modules["gcsfs"] = None\n{code}')
  assert 'OSError: gs://runs is read with' in said
  assert "pip install -e '.[gcs]'" in said


@pytest.fixture
def proxy(store, monkeypatch):
  """The same store, for this process alone, when it fails."""
  with faulty_proxy.running(store.address) as running:
    for name, value in running.environment.items():
      monkeypatch.setenv(name, value)
    monkeypatch.setattr(google_storage, 'FIRST_PAUSE', 0.01)
    yield running


@pytest.mark.parametrize('fault', ['503', '429', 'hang', 'reset'])
def test_what_passes_is_waited_for(proxy, caplog, monkeypatch, fault):
  monkeypatch.setattr(
    google_storage, 'TIMEOUT', aiohttp.ClientTimeout(sock_read=0.05)
  )
  path = storage.path(proxy.url(f'waited/{fault}'))
  storage.write(path, 'before')
  if fault == 'hang':
    proxy.hang()
  elif fault == 'reset':
    proxy.reset()
  else:
    proxy.fail(int(fault))
  wrote = threading.Thread(target=storage.write, args=(path, 'after'))
  wrote.start()
  assert proxy.wait_for(4)
  proxy.heal()
  wrote.join()
  assert path.read_text() == 'after'
  said = [x.getMessage() for x in caplog.records if 'Trying' in x.getMessage()]
  assert len(said) == 1
  assert said[0].startswith('gs://runs')


def test_nobody_waits_for_ever(proxy, monkeypatch):
  path = storage.path(proxy.url('ever/a'))
  storage.write(path, 'before')
  monkeypatch.setattr(google_storage, 'PATIENCE', 0.05)
  proxy.refuse()
  for ask in (path.exists, path.is_dir, path.read_text):
    with pytest.raises(OSError, match=r'gs://runs.*: no answer in '):
      ask()
  with pytest.raises(OSError, match=f'{path} cannot be written: gs://runs: no'):
    storage.write(path, 'after')
  monkeypatch.setattr(google_storage, 'PATIENCE', 900)
  with pytest.raises(OSError, match='no answer'):  # At once, on the way out.
    path.read_text()
  proxy.heal()
  assert path.read_text() == 'before'


def test_a_refusal_is_not_waited_for(proxy):
  path = storage.path(proxy.url('refused/a'))
  proxy.fail(403)
  with pytest.raises(OSError, match='Forbidden'):
    path.exists()
  proxy.fail(401)
  with pytest.raises(PermissionError, match='gs://runs'):
    path.exists()


def test_a_run_outlasts_a_store_that_fails(store):
  with faulty_proxy.running(store.address) as proxy:
    workdir = proxy.url('outlasts')
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', 'experiments.run'),
        *('--config=configs/digits.py:smoke', f'--workdir={workdir}'),
        *('--config.train.steps=4', '--config.train.checkpoint_every=2'),
      ],
      cwd=ROOT,
      env=os.environ | proxy.environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    launches = storage.path(store.url('outlasts')) / telemetry.LAUNCHES
    while process.poll() is None and not launches.exists():
      time.sleep(0.05)
    proxy.fail(503)
    assert proxy.wait_for(3)
    proxy.heal()
    _, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  assert 'Traceback' not in errors
  folder = launches.parent
  assert checkpoint.damage(folder / 'checkpoints' / '4') is None
  assert not (ROOT / 'gs:').exists()


def put(store, folder):
  """Copies a folder of data to the store; where it is there."""
  for path in folder.rglob('*'):
    if path.is_file():
      target = store.url(f'data/{path.relative_to(folder)}')
      storage.write(storage.path(target), path.read_bytes())
  return store.url('data')


def test_imagenet_is_read_there(store, mini_imagenet_dir):
  data_dir = put(store, mini_imagenet_dir / 'tfds')
  options = {'num_examples': 24, 'num_classes': 12}
  local = imagenet.open_source(
    str(mini_imagenet_dir / 'tfds'), 'train', **options
  )
  there = imagenet.open_source(data_dir, 'train', **options)
  assert [there[i] for i in (0, 23)] == [local[i] for i in (0, 23)]
  assert imagenet.classes(data_dir, 12) == imagenet.classes(
    str(mini_imagenet_dir / 'tfds'), 12
  )
  with pytest.raises(DataNotFoundError, match=r"at data.dir='gs://runs/none'"):
    imagenet.open_source(store.url('none'), 'train', **options)


def test_audioset_is_read_there(store, tmp_path):
  from experiments.benchmarks.audioset import parts

  folder = tmp_path / audioset.directory('')
  folder.mkdir(parents=True)
  parts.write_records(
    str(folder / 'a'), [x for i in range(2) for x in audioset.encode(record(i))]
  )
  info = {'classes': [['/m/0', 'A']], 'splits': {'train': {'a': 2}}}
  (folder / audioset.INFO).write_text(json.dumps(info))
  options = {'num_examples': 2, 'num_classes': 1}
  source = audioset.open_source(put(store, tmp_path), 'train', **options)
  assert source[1]['frames'][59] == record(1)['frames'][59]
  np.testing.assert_array_equal(source[1]['audio'], record(1)['audio'])
  storage.path(source.paths[0]).unlink()
  with pytest.raises(DataNotFoundError, match='lacks 1 of its files'):
    audioset.open_source(store.url('data'), 'train', **options)
  with pytest.raises(DataNotFoundError, match=r"at data.dir='gs://runs/none'"):
    audioset.open_source(store.url('none'), 'train', **options)


def test_point_clouds_are_read_there(store, tmp_path, monkeypatch):
  monkeypatch.setitem(modelnet40.DATASETS, 'tiny', TINY)
  archive = write_zip(tmp_path / 'tiny.zip', meshes())
  with pytest.raises(OSError, match='Write to a disk, and copy that'):
    preparation.prepare('tiny', archive, store.url('data'))
  preparation.prepare('tiny', archive, str(tmp_path / 'data'))
  data_dir = put(store, tmp_path / 'data')
  ours = modelnet40.open_source('tiny', 'test', str(tmp_path / 'data'))[0]
  there = modelnet40.open_source('tiny', 'test', data_dir)[0]
  np.testing.assert_array_equal(there['points'], ours['points'])
  with pytest.raises(DataNotFoundError, match="'tiny' at gs://runs/none"):
    modelnet40.open_source('tiny', 'test', store.url('none'))
