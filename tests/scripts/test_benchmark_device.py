"""Measurements of a device: each part is on its own; no time is asserted."""

import json
import sys
import time

import numpy as np
import pytest

from perceiver import cost
from scripts.benchmark.device import (
  agreement,
  parts,
  plan,
  runner,
  table,
  trace,
)
from scripts.benchmark.device.runner import Part
from tests import commands

# What a part's process does, by its name.
PROGRAMS = {
  'answers': """print('{"value": 1}'); print('not a result')""",
  'says': """print('{"platform": "tpu"}')""",
  'dies': """
import os, signal
print('{"value": 2}', flush=True)
os.kill(os.getpid(), signal.SIGKILL)""",
  'raises': """
print('{"value": 3}', flush=True)
raise ValueError('no such form')""",
  'hangs': """
import subprocess, sys, time
print('{"value": 4}', flush=True)
subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])""",
}


def run(folder, *measured, seconds=60.0):
  """Runs parts whose processes are `PROGRAMS`; returns the lines they leave."""
  command = lambda part: [sys.executable, '-c', PROGRAMS[part.name]]
  runner.run(measured, folder, seconds, {'command': 'this'}, command)
  text = (folder / runner.RESULTS).read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_a_part_that_dies_or_hangs_costs_no_other_part(tmp_path):
  names = 'dies', 'hangs', 'raises'
  start = time.monotonic()
  lines = run(
    tmp_path,
    *(Part(name, 5.0, {'batch_size': 4}) for name in names),
    Part('answers', 30.0),
  )
  assert time.monotonic() - start < 60.0  # Its children are killed, too.
  assert lines == [
    {'command': 'this'},
    {'part': 'dies', 'batch_size': 4, 'value': 2},
    {'part': 'dies', 'batch_size': 4, 'failed': lines[2]['failed']},
    {'part': 'hangs', 'batch_size': 4, 'value': 4},
    {
      'part': 'hangs',
      'batch_size': 4,
      'failed': 'killed after its limit of 5 s',
    },
    {'part': 'raises', 'batch_size': 4, 'value': 3},
    {
      'part': 'raises',
      'batch_size': 4,
      'failed': 'status 1: ValueError: no such form',
    },
    {'part': 'answers', 'value': 1},
  ]
  assert lines[2]['failed'].startswith('status -9: ')


def test_parts_end_with_the_limit_of_all(tmp_path):
  lines = run(
    tmp_path, Part('hangs', 100.0), Part('answers', 100.0), seconds=6.0
  )
  assert [line.get('failed') for line in lines] == [
    *(None, None),
    'killed after its limit of 6 s',
    'no time was left',
  ]


def test_a_part_for_another_platform_is_skipped(tmp_path):
  only = lambda platform: Part('answers', 30.0, platform=platform)
  lines = run(
    tmp_path, only('gpu'), Part('says', 30.0), only('gpu'), only('tpu')
  )
  # Before the first answer, the platform is unknown.
  names = ['answers', 'says', 'answers']
  assert [line['part'] for line in lines[1:]] == names


def test_every_part_has_a_config_with_its_keys():
  for part in [*plan.full(), *plan.tiny()]:
    assert part.name in parts.PARTS
    assert part.name in plan.NAMES
    if 'config' in part.settings:
      settings = {k: x for k, x in part.settings.items() if k != 'mode'}
      config = parts.configure(**settings)
      for key, value in part.settings['changes'].items():
        section, _, name = key.partition('.')
        assert config[section][name] == value
  assert {part.name for part in plan.full()} == {*plan.NAMES}
  assert {part.name for part in plan.tiny()} == {*plan.NAMES}


def lines_of(capsys, name, **settings):
  parts.main(name, json.dumps(settings))
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def briefly(monkeypatch):
  monkeypatch.setattr(parts, 'REPETITIONS', 3)


SMALL = {'config': 'digits:smoke', 'batch_size': 4, 'changes': {}}


def test_a_step_is_measured(briefly, capsys):
  (line,) = lines_of(capsys, 'step', **SMALL, mode='forward')
  assert line['repetitions'] == 3
  assert 0 < line['best_s'] <= line['median_s']
  assert line['examples_per_s'] == pytest.approx(4 / line['median_s'])
  config = parts.configure(**SMALL)
  flops = 4 * cost.perceiver_flops(config.model, 64, 19)
  assert line['tflops'] == pytest.approx(flops / line['median_s'] / 1e12)
  assert line['peak_gb'] > line['planned_gb'] > 0


def test_ceilings_and_versions_are_measured(briefly, capsys):
  product, copy = lines_of(capsys, 'ceilings', size=32)
  assert product['tflops'] * product['median_s'] == pytest.approx(
    2 * 32**3 / 1e12
  )
  assert copy['tb_per_s'] * copy['median_s'] == pytest.approx(
    2 * 4 * 8 * 32**2 / 1e12
  )
  (line,) = lines_of(capsys, 'versions')
  assert line['platform'] == 'cpu'
  assert line['packages'].keys() >= {'jax', 'jaxlib'}


def test_forms_are_compared_with_the_plain_one(monkeypatch):
  small, wrong = agreement.CASES['tiny'][0], {'attention': 'no_kv'}
  monkeypatch.setitem(agreement.CASES, 'one', [small])
  found = {str(x['form']): x for x in agreement.compare('one')}
  assert found['{}']['errors'] == {'logits': 0.0, 'gradients': 0.0}
  # Float32 has 2e-7; sums of some hundred terms lose two digits of it.
  assert 0 < found[str(wrong)]['errors']['gradients'] < 1e-4
  assert 'NVIDIA GPU' in found["{'self_attention': 'cudnn'}"]['cannot_run']
  # Another function is noticed.
  monkeypatch.setitem(agreement.PLAIN, 'compute_dtype', 'bfloat16')
  plain = next(agreement.compare('one'))
  assert plain['errors']['logits'] > 1e-4


def test_a_form_that_fails_costs_no_other_form(monkeypatch):
  def results(case, settings):
    if settings['attention'] == 'no_kv':
      raise RuntimeError('No such engine.')
    return np.ones(3), np.ones(3)

  monkeypatch.setattr(agreement, '_results', results)
  found = {str(x['form']): x for x in agreement.compare('tiny')}
  failed = found["{'attention': 'no_kv'}"]['failed']
  assert failed == 'RuntimeError: No such engine.'
  assert 'errors' in found["{'attention': 'factored'}"]


EVENTS = [
  {'name': 'process_name', 'ph': 'M', 'pid': 1, 'args': {'name': '/host:CPU'}},
  {
    'name': 'process_name',
    'ph': 'M',
    'pid': 2,
    'args': {'name': '/device:GPU:0'},
  },
  *(
    {'name': 'thread_name', 'ph': 'M', 'pid': 2, 'tid': i, 'args': {'name': x}}
    for i, x in enumerate(['Stream #14', 'Steps'])
  ),
  {'name': 'host', 'ph': 'X', 'pid': 1, 'tid': 0, 'dur': 900},
  {'name': 'fusion', 'ph': 'X', 'pid': 2, 'tid': 0, 'dur': 300},
  {'name': 'gemm', 'ph': 'X', 'pid': 2, 'tid': 0, 'dur': 600},
  {'name': 'gemm', 'ph': 'X', 'pid': 2, 'tid': 0, 'dur': 300},
  {'name': 'step 1', 'ph': 'X', 'pid': 2, 'tid': 1, 'dur': 1200},
]


def test_a_profile_sums_the_kernels_of_the_device_alone():
  assert list(trace.summary(EVENTS)) == [
    {'kernel': 'gemm', 'ms_a_step': 0.3, 'share': 0.75},
    {'kernel': 'fusion', 'ms_a_step': 0.1, 'share': 0.25},
  ]
  assert list(trace.summary(EVENTS[:1])) == [{'no_kernel_on': ['/host:CPU']}]


def test_results_are_tables(tmp_path):
  step = {'part': 'step', 'config': 'imagenet', 'batch_size': 64}
  step |= {'mode': 'train', 'changes': {'model.attention': 'plain'}}
  times = {'median_s': 0.5, 'examples_per_s': 128.0, 'tflops': 271.6}
  case = {'grid': [5, 7], 'dtype': 'bfloat16', 'is_masked': True}
  errors = {'logits': 0.01, 'gradients': 0.02}
  lines = [
    {'command': 'an older launch'},
    {'part': 'step'} | times,
    {'command': 'this one', 'commit': 'abc'},
    {'part': 'versions', 'device': 'H100', 'packages': {'jax': '0.12'}},
    {'part': 'check', 'case': case, 'form': {}, 'errors': errors},
    {'part': 'ceilings', 'ceiling': 'product', 'tflops': 701.2},
    step | times | {'compile_s': 30.2, 'peak_gb': 38.1},
    {'part': 'profile', 'kernel': 'gemm', 'ms_a_step': 0.3, 'share': 0.75},
    step | {'failed': 'killed after its limit of 90 s'},
  ]
  path = tmp_path / 'results.jsonl'
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  path.write_text(text + '{"part": "unfini')
  shown = table.as_markdown(table.read(path))
  assert 'older' not in shown
  title = 'step imagenet train batch 64: attention=plain'
  for line in (
    '* device: H100',
    '* jax: 0.12',
    '* bfloat16 product: 701 TFLOP/s',
    '| 5 x 7, bfloat16, masked | plain | 1.0e-02 | 2.0e-02 |',
    f'| {title} | 500.00 | 128.0 | 272 | 30 | 38.10 |',
    '| gemm | 0.300 | 75.0 % |',
    f'* {title}: killed after its limit of 90 s',
  ):
    assert line in shown.splitlines()


@pytest.mark.slow
def test_all_kinds_of_parts_run_at_tiny_sizes(tmp_path):
  device = 'scripts.benchmark.device', f'--output={tmp_path}/new'
  result = commands.python('-m', *device, '--tiny')
  assert result.returncode == 0, result.stderr
  lines = [json.loads(line) for line in result.stdout.splitlines()]
  failed = {line['part'] for line in lines if 'failed' in line}
  assert failed <= {'peer'}  # If PyTorch is not installed.
  assert {line['part'] for line in lines[1:]} == {*plan.NAMES}
  assert (
    '| step digits:smoke train batch 4'
    in commands.python('-m', *device, '--table').stdout
  )
