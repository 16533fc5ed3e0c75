"""The loader's benchmark measures what it says; no figure is asserted."""

import json
import subprocess
import sys

import pytest

from scripts import benchmark_loader
from tests.conftest import ROOT


def run(*arguments):
  command = [sys.executable, '-m', 'scripts.benchmark_loader', *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_photographs_are_like_imagenets():
  first, second = benchmark_loader.photographs(2)
  assert first['jpeg'] != second['jpeg']
  for record in (first, second):
    assert 50e3 < len(record['jpeg']) < 110e3
    image = benchmark_loader.decode_and_resize(record['jpeg'])
    assert (image.mode, image.size) == ('RGB', (224, 224))


def test_transforms_and_workers_are_measured(tmp_path):
  path = tmp_path / 'report.json'
  result = run(
    '--workers=1,2',
    '--repetitions=1',
    '--images=4',
    '--batches=1',
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  report = json.loads(path.read_text())
  assert {'command', 'commit', 'time', 'cpu_cores'} <= report.keys()
  transforms = report['transforms']
  assert 50 < transforms['kilobytes'] < 110
  assert transforms['ratio'] == transforms['training_s'] / transforms['bare_s']
  one, two = report['loader']
  assert (one['workers'], two['workers']) == (1, 2)
  assert two['ratio'] == two['examples_per_s'] / one['examples_per_s']


@pytest.mark.parametrize('argument', ['--images=0', '--workers=1,x'])
def test_bad_arguments(argument):
  result = run(argument)
  assert result.returncode == 1
  assert result.stderr.startswith('Error: --')


def test_a_report_that_cannot_be_written_is_found_out_first():
  result = run('--json=/dev/null/report.json')
  assert result.returncode == 1
  start = 'Error: /dev/null/report.json cannot be written: Not a directory.'
  assert result.stderr.startswith(start)
  assert not result.stdout
