"""Exported models have the same logits without the laboratory."""

import json
import os
import re
import subprocess

import jax
import numpy as np
import pytest

from configs import modelnet40
from experiments import saved
import perceiver
from perceiver import exports
from scripts import export
from tests import commands
from tests.benchmarks.audioset import clips
from tests.conftest import ROOT
from tests.experiments.smoke import edited_config, on_devices
from tests.perceiver import hub_server
from tests.scripts import untrained

CLASSIFY = """
import importlib.util, sys
import numpy as np
import perceiver

assert importlib.util.find_spec('experiments') is None
for folder in sys.argv[1:]:
  inputs = dict(np.load(f'{folder}.npz'))
  if len(inputs) == 1:
    (inputs,) = inputs.values()
  np.save(f'{folder}.npy', perceiver.from_pretrained(folder)(inputs))
"""


def laboratory(run, params, examples):
  """Returns the logits of windows from the pipeline."""
  batch = {
    name: np.stack([x[name] for x in examples])
    for name in run.task.batch_spec(1)
    if name != 'mask'
  }
  forward = lambda params, batch: run.forward.apply(
    params, {}, None, batch, False
  )[0]
  return np.asarray(jax.jit(forward)(params, batch))


def solids():
  """Returns a run, its examples, and the arrays that users have."""
  config = modelnet40.get_config('solids')
  config.model.update(num_latents=4, latent_channels=16)
  run = on_devices(config)
  rng = np.random.default_rng(0)
  clouds = (rng.normal(size=(2, 2048, 3)) * 5 + 1).astype(np.float32)
  examples = [
    run.task.eval_example({'points': cloud, 'label': 0}) for cloud in clouds
  ]
  return run, examples, {'points': clouds}


def events():
  run = on_devices(clips.config('av_mel'))
  examples = [
    run.task.display.window(run.task.eval_example(clips.clip(seed=seed)), 1)
    for seed in range(2)
  ]
  frames = np.stack([clips.uncut(x['video']) for x in examples])
  sounds = np.stack([x['audio'] for x in examples])
  return run, examples, {'video': frames, 'audio': sounds}


def digits(trained):
  """Exports the trained run; the others can be compared untrained."""
  run, workdir, _ = trained
  records = run.source('test')[:4]
  examples = [run.task.eval_example(record) for record in records]
  images = np.stack([record['image'][..., None] for record in records])
  return run, workdir, examples, {'image': images}


@pytest.mark.slow
def test_the_library_alone_gives_the_laboratorys_logits(
  trained, library_python, tmp_path
):
  """Compares images, points, and video with sound to 1e-6 of the logits."""
  expected = {}
  run, workdir, examples, inputs = digits(trained)
  export.export(str(workdir), str(tmp_path / 'digits'))
  np.savez(tmp_path / 'digits.npz', **inputs)
  params = saved.restore(run, str(workdir)).params
  expected['digits'] = laboratory(run, params, examples)
  for name, make in (('solids', solids), ('events', events)):
    run, examples, inputs = make()
    params = untrained.random_weights(run)
    classes = [f'class {i}' for i in range(run.task.num_classes)]
    exports.write(
      tmp_path / name,
      export.describe(run, classes),
      exports.as_tensors(params),
    )
    np.savez(tmp_path / f'{name}.npz', **inputs)
    expected[name] = laboratory(run, params, examples)
  folders = [str(tmp_path / name) for name in expected]
  subprocess.run(
    [library_python, '-c', CLASSIFY, *folders], cwd=tmp_path, check=True
  )
  for name, logits in expected.items():
    assert np.ptp(logits) > 0.1
    error = np.abs(np.load(tmp_path / f'{name}.npy') - logits).max()
    # Programs that are fused differently round differently.
    assert error <= 1e-6 * max(np.abs(logits).max(), 1), name


def test_the_card_tells_where_the_weights_come_from(trained, tmp_path):
  _, workdir, metrics = trained
  folder = tmp_path / 'deep' / 'digits'
  export.export(str(workdir), str(folder), dtype='bfloat16', checkpoint='best')
  assert {x.name for x in folder.iterdir()} == {
    *('README.md', 'config.json', 'model.safetensors'),
  }
  card = (folder / 'README.md').read_text()
  assert 'stored in bfloat16' in card
  assert '| Data | 1,437 examples of the split `train`, 360 examples' in card
  assert f'test top1 {100 * metrics["top1"]:.2f} %' in card
  assert re.search(r'\| Commit \| `[0-9a-f]{40}', card)
  assert 'python -m experiments.run' in card
  assert '"learning_rate": 0.01' in card
  assert str(workdir) not in card.partition('```json')[2]
  assert card.startswith('---\nlicense: # Fill in')
  config = json.loads((folder / 'config.json').read_text())
  assert config['classes'] == [str(i) for i in range(10)]
  assert config['scores'] == 'softmax'
  assert config['model']['query_residual'] is True
  assert config['input']['image']['mean'] == [8.0]
  model = perceiver.from_pretrained(folder)
  assert model(np.zeros((1, 8, 8, 1))).shape == (1, 10)
  with pytest.raises(FileExistsError, match='exists already'):
    export.export(str(workdir), str(folder))


def test_the_command_converts_a_file_of_the_authors(tmp_path):
  source = ROOT / 'tests/perceiver/released/imagenet_conv.pystate'
  ours = tmp_path / 'ours'
  result = commands.run('scripts.export', f'--from={source}', ours)
  assert result.returncode == 0, result.stderr
  assert '| Converted from | `imagenet_conv.pystate`' in (
    (ours / 'README.md').read_text()
  )
  images = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3))
  np.testing.assert_array_equal(
    perceiver.from_pretrained(ours)(images),
    perceiver.from_pretrained(source)(images),
  )


def test_the_command_converts_a_model_of_transformers(tmp_path):
  source = ROOT / 'tests/perceiver/transformers/fourier'
  ours = tmp_path / 'ours'
  result = commands.run('scripts.export', f'--from={source}', ours)
  assert result.returncode == 0, result.stderr
  assert result.stdout == f'{ours}\n'
  images = np.load(source / 'expected.npz')['images_16x20']
  np.testing.assert_array_equal(
    perceiver.from_pretrained(ours)(images),
    perceiver.from_pretrained(source)(images),
  )
  assert '| Converted from | `fourier` |' in (ours / 'README.md').read_text()


@pytest.mark.slow
def test_the_command_converts_a_model_of_a_hub(tmp_path):
  source = ROOT / 'tests/perceiver/transformers/fourier'
  files = {x.name: x.read_bytes() for x in source.iterdir()}
  ours, commit = tmp_path / 'ours', 'c' * 40
  repositories = {'deepmind/fourier': {commit: files}}
  with hub_server.running(repositories, {'v1': commit}) as hub:
    result = commands.python(
      *('-m', 'scripts.export', '--from=deepmind/fourier@v1', str(ours)),
      env=os.environ | hub.environment(tmp_path / 'home'),
    )
  assert (result.returncode, result.stdout) == (0, f'{ours}\n'), result.stderr
  expected = exports.read(source)[1]
  for name, tensor in exports.read(ours)[1].items():
    np.testing.assert_array_equal(tensor, expected[name])
  card = (ours / 'README.md').read_text()
  assert '| Converted from | `deepmind/fourier@v1` |' in card
  assert f'| Its commit | `{commit}` |' in card


def test_what_cannot_be_exported_is_one_clear_error(copy, tmp_path):
  for arguments, message in (
    ([tmp_path / 'no', tmp_path / 'x'], 'is not the workdir of a run'),
    ([f'--from={tmp_path}', tmp_path / 'x'], 'has no config.json'),
    ([tmp_path / 'x'], r'Expected RUN OUT, got'),
  ):
    result = commands.run('scripts.export', *arguments)
    assert result.returncode == 1
    assert re.search(message, result.stderr + result.stdout)
    assert 'Traceback' not in result.stderr
  with edited_config(copy) as config:
    config['model'] = {
      **{'name': 'transformer', 'num_classes': 10, 'channels': 8},
      **{'num_self_attends': 1, 'self_attend_heads': 2},
    }
  with pytest.raises(ValueError, match='only Perceivers are exported'):
    export.export(str(copy), str(tmp_path / 'x'))
  assert not (tmp_path / 'x').exists()
