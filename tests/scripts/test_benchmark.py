"""The benchmark measures what it says; no time is asserted."""

import importlib.util
import json
import multiprocessing
import os
import threading
import types

import pytest

from configs import fashion_mnist, imagenet, modelnet40
from experiments import models
from perceiver import cost
from scripts.benchmark import peers
from scripts.shared import measurements
from tests import commands, quick


def run(*arguments, config='configs/digits.py:smoke'):
  return commands.run('scripts.benchmark', f'--config={config}', *arguments)


@pytest.fixture
def in_threads(monkeypatch):
  """Runs contenders in threads; a process takes seconds to start."""

  def pipe():
    ours, theirs = multiprocessing.Pipe()
    theirs.close = lambda: None  # The contender uses it in this process.
    return ours, theirs

  context = types.SimpleNamespace(Pipe=pipe, Process=threading.Thread)
  monkeypatch.setattr('multiprocessing.get_context', lambda kind: context)


@pytest.mark.parametrize(
  'part', quick.only(['cross_attention'], ['model', 'cross_attention'])
)
def test_each_contender_is_measured(in_threads, tmp_path, part):
  path = tmp_path / 'report.json'
  result = run(
    f'--part={part}',
    '--mode=forward,train',
    '--attention=plain,factored',
    '--batch_size=4',
    '--dtype=bfloat16',
    '--repetitions=2',
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  assert f'{part}, batch 4, bfloat16, medians of 2' in result.stdout
  assert f'on {measurements.processor()}\n' in result.stdout
  report = json.loads(path.read_text())
  assert {'command', 'commit', 'time'} <= report.keys()
  results = report['results']
  assert [(r['mode'], r['name']) for r in results] == [
    ('forward', 'plain'),
    ('forward', 'factored'),
    ('train', 'plain'),
    ('train', 'factored'),
  ]
  for r in results:
    assert len(r['step_s']) == 2
    assert r['examples_per_s'] == 4 / r['median_s']
    assert r['peak_bytes'] > r['compiler_bytes'] > 0
  forward, _, train, _ = results
  assert train['flops'] == 3 * forward['flops']
  assert len({r['parameters'] for r in results}) == 1


@pytest.mark.slow
def test_a_baseline_is_measured_in_a_process_of_its_own():
  """The command does not mention backends that are missing, either."""
  result = commands.python(
    *('-m', 'scripts.benchmark', '--mode=forward', '--repetitions=1'),
    '--config=configs/fashion_mnist.py:table2_resnet',
    '--config.model.blocks=(1, 1, 1, 1)',
    env={k: v for k, v in os.environ.items() if k != 'JAX_PLATFORMS'},
  )
  assert result.returncode == 0, result.stderr
  assert 'forward' in result.stdout
  assert 'resnet' in result.stdout
  assert 'backend' not in result.stderr


@pytest.mark.slow
def test_peers_are_as_large_as_the_config():
  size = peers.size_of(fashion_mnist.get_config())
  assert size.grid == (28, 28)
  assert size.num_channels == 1 + 2 * (2 * 16 + 1)
  assert size.latent_channels == 96
  assert not peers.left_out(size)
  size = peers.size_of(imagenet.get_config('io'))
  assert (size.num_cross_attends, size.head) == (1, 'query')
  assert peers.left_out(size).keys() == {'perceiver-pytorch'}
  with pytest.raises(ValueError, match='Perceivers on images'):
    peers.size_of(modelnet40.get_config())
  with pytest.raises(ValueError, match='Perceivers on images'):
    peers.size_of(imagenet.get_config('resnet50'))
  with pytest.raises(ValueError, match='Fourier features alone'):
    peers.size_of(imagenet.get_config('learned'))


def test_the_peer_of_perceiver_io_is_the_same_model():
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  config = imagenet.get_config('io')
  small = {
    'num_latents': 8,
    'latent_channels': 32,
    'num_latent_transformers': 2,
  }
  config.model.update(small)
  config.task.image_size = 16
  prepared = peers.prepare('transformers', 'forward', 1, peers.size_of(config))
  parameters = cost.count_parameters(models.model_shapes(config)[0])
  assert prepared.parameters == parameters
  assert prepared.flops == models.forward_flops(config)
  assert not prepared.note


def test_bad_arguments():
  result = run('--part=cross_attention', config='configs/imagenet.py:resnet50')
  assert "model.name='resnet' has no such part" in result.stderr
  result = run('--mode=backward')
  assert "--mode=backward is neither 'forward' nor 'train'" in result.stderr
  result = run('--attention=flash')
  assert "attention='flash' is none of" in result.stderr
  if importlib.util.find_spec('perceiver_pytorch') is None:
    assert "pip install -e '.[peers]'" in run('--peers').stderr
