"""The benchmark of the loader measures what it says; no time is asserted."""

import json

import pytest

from scripts import benchmark_loader
from tests import commands


def test_photographs_are_like_imagenets():
  first, second = benchmark_loader.photographs(2)
  assert first['jpeg'] != second['jpeg']
  for record in (first, second):
    assert 50e3 < len(record['jpeg']) < 110e3
    image = benchmark_loader.decode_and_resize(record['jpeg'])
    assert (image.mode, image.size) == ('RGB', (224, 224))


def test_a_turn_of_each_is_timed(monkeypatch):
  records = benchmark_loader.photographs(1)
  measured = benchmark_loader.time_transforms(records, 1)
  assert 50 < measured['kilobytes'] < 110
  assert measured['ratio'] == measured['training_s'] / measured['bare_s']
  rates = {1: [5.0, 7.0, 9.0], 2: [16.0, 14.0, 10.0]}
  rate = lambda records, count, num_batches: rates[count].pop()
  monkeypatch.setattr(benchmark_loader, 'examples_per_second', rate)
  one, two = benchmark_loader.time_workers(records, [1, 2], 3, 1)
  assert one == {'workers': 1, 'examples_per_s': 7.0, 'ratio': 1.0}
  assert two == {'workers': 2, 'examples_per_s': 14.0, 'ratio': 2.0}


def test_forms_of_files_are_timed_beside_folders(tmp_path):
  records = benchmark_loader.photographs(12)
  folders, *others = benchmark_loader.time_forms(records, 2, str(tmp_path))
  assert (folders['form'], folders['ratio']) == ('folders', 1.0)
  assert [x['form'] for x in others] == ['parquet', 'tars', 'tfds']
  for form in (folders, *others):
    assert 0 < form['reading_s'] < 1 / form['images_per_s']


@pytest.mark.slow
def test_transforms_forms_and_workers_are_measured(tmp_path):
  path = tmp_path / 'report.json'
  result = commands.run(
    *('scripts.benchmark_loader', f'--json={path}', '--images=4', '--files=12'),
    *('--workers=1', '--repetitions=1', '--batches=1'),
  )
  assert result.returncode == 0, result.stderr
  report = json.loads(path.read_text())
  assert {'command', 'commit', 'time', 'cpu_cores'} <= report.keys()
  assert report['transforms']['ratio'] > 0
  assert [x['form'] for x in report['forms']][:2] == ['folders', 'parquet']
  (one,) = report['loader']
  assert one['workers'] == 1
  assert one['examples_per_s'] > 0


@pytest.mark.parametrize(
  'argument', ['--images=0', '--workers=1,x', '--files=11', '--files=-1']
)
def test_bad_arguments(argument):
  line = commands.error('scripts.benchmark_loader', argument)
  assert line.startswith('Error: --')
