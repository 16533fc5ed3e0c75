"""Attention maps of the whole script show attention that is known."""

import numpy as np
from PIL import Image
import pytest

from configs import audioset
from experiments import benchmarks
from experiments.errors import DamagedRecordError
from scripts import attention_maps
from tests import commands, quick
from tests.experiments.smoke import create
from tests.scripts import known_attention, untrained
from tests.scripts.known_attention import CASES, clip, digit


# Pixels in a permuted order, and elements without a grid.
@pytest.mark.parametrize('case', quick.only(['permuted', 'points'], CASES))
def test_the_maximum_is_where_the_model_looks(case, tmp_path):
  make, config, settings, places = CASES[case]
  config = known_attention.small(config)
  config.update_from_flattened_dict(settings)
  path = str(make(tmp_path))
  task = benchmarks.create(**config.task)
  ((_, record),) = task.file_reader.read([path])
  window = task.display.window(task.eval_example(record), 0)
  views = task.display.views(window)
  # The elements of all segments, in the model's order.
  targets, offset = [], 0
  for view in views:
    order = np.arange(np.prod(view.grid)) if view.order is None else view.order
    for place in places[view.kind]:
      flat = np.ravel_multi_index(place, view.grid)
      targets.append(offset + int(np.flatnonzero(order == flat)[0]))
    offset += len(order)
  workdir = tmp_path / 'run'
  known_attention.save(config, workdir, window, targets)

  paths = attention_maps.write(
    str(workdir),
    files=[path],
    arrays=True,
    quantities=['logits', 'attention', 'mean'],
  )

  arrays = np.load(paths[-1])
  assert arrays['cross_attends'].tolist() == [1, 2]
  assert arrays['latents'].tolist() == [0, 1]
  looked_at = [(v.kind, p) for v in views for p in places[v.kind]]
  for cross in (0, 1):
    order = looked_at if cross == 0 else looked_at[::-1]
    for latent, (kind, place) in enumerate(order):
      for quantity in ('logits', 'attention'):
        shown = arrays[f'{kind}_{quantity}'][cross, 0, latent]
        assert np.unravel_index(shown.argmax(), shown.shape) == place
        others = [
          arrays[f'{v.kind}_{quantity}'][cross, 0, latent].max()
          for v in views
          if v.kind != kind
        ]
        assert all(other < shown.max() for other in others)
    total = sum(arrays[f'{v.kind}_attention'][cross].sum() for v in views)
    assert total == pytest.approx(2, rel=1e-4)  # One for each latent.
    for view in views:
      np.testing.assert_allclose(
        arrays[f'{view.kind}_mean'][cross],
        arrays[f'{view.kind}_attention'][cross, 0].mean(axis=0),
        rtol=1e-4,
        atol=1e-7,
      )
  assert len(paths) == len(views) + 1
  for picture in paths[:-1]:
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape[0] > 100
    assert pixels.std() > 10


@pytest.mark.slow
def test_a_checkpoint_from_other_devices_has_maps(tmp_path):
  elsewhere = create(
    devices=4, **{'train.model_parallel': 2, 'model.compute_dtype': 'bfloat16'}
  )
  untrained.save(elsewhere, tmp_path)
  paths = attention_maps.write(str(tmp_path), examples=[0], arrays=True)
  logits = np.load(paths[-1])['image_logits']
  assert logits.shape == (2, 1, 8, 8, 8)
  assert logits.dtype == np.float32
  assert logits.std() > 0


@pytest.mark.slow
def test_each_window_of_a_clip_has_its_own_maps(tmp_path):
  config = known_attention.small(audioset.get_config('events_audio'))
  path = str(clip(tmp_path))
  task = benchmarks.create(**config.task)
  ((_, record),) = task.file_reader.read([path])
  example = task.eval_example(record)
  workdir = tmp_path / 'run'
  known_attention.save(config, workdir, task.display.window(example, 0), [3, 9])
  maps = []
  for window in (0, task.num_eval_windows - 1):
    *_, arrays = attention_maps.write(
      str(workdir), files=[path], window=window, arrays=True
    )
    maps.append(np.load(arrays)['spectrogram_logits'])
  assert np.abs(maps[0] - maps[1]).max() > 0.1
  with pytest.raises(ValueError, match='--window=10: '):
    attention_maps.write(str(workdir), files=[path], window=10)


def test_the_command_prints_what_it_wrote(workdir, tmp_path):
  result = commands.run(
    'scripts.attention_maps',
    *(f'--workdir={workdir}', f'--output={tmp_path}', '--examples=5'),
    *('--latents=0-1,7', '--cross_attends=2', '--show=attention,mean'),
    *('--arrays', '--data_dir=elsewhere', '--checkpoint=best'),
  )
  assert result.returncode == 0, result.stderr
  names = ['test_5.png', 'test_5.npz']
  assert result.stdout.split() == [str(tmp_path / name) for name in names]
  with np.load(tmp_path / 'test_5.npz') as file:
    arrays = dict(file)
  assert arrays['latents'].tolist() == [0, 1, 7]
  assert arrays['cross_attends'].tolist() == [2]
  assert arrays['image_attention'].shape == (1, 1, 3, 8, 8)
  assert arrays['image_mean'].shape == (1, 8, 8)
  assert 'image_logits' not in arrays


def test_examples_of_the_split_are_drawn_with_their_names(workdir, tmp_path):
  paths = attention_maps.write(
    str(workdir),
    examples=[3, 359],
    output=str(tmp_path),
    latents=[7],
    cross_attends=['last'],
  )
  assert [p.name for p in paths] == ['test_3.png', 'test_359.png']
  assert all(p.parent == tmp_path for p in paths)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'examples': [360]}, "no example 360: the split 'test' has 0 to 359"),
    ({'latents': [8]}, 'no latent 8: the model has 0 to 7'),
    ({'cross_attends': ['3']}, 'no cross-attend 3: the model has 1 to 2'),
    ({'cross_attends': ['third']}, '--cross_attends=third is no number'),
    ({'quantities': ['logit']}, '--show=logit is none of'),
    ({'files': ['nothing.png']}, 'nothing.png'),
    ({'window': 1}, '--window=1: an example has 1, from 0 on'),
  ],
)
def test_what_is_not_there_is_said(workdir, tmp_path, arguments, message):
  output = tmp_path / 'maps'
  with pytest.raises((ValueError, OSError), match=message):
    attention_maps.write(
      str(workdir),
      output=str(output),
      **{'examples': [0], **arguments},
    )
  assert not output.exists()


def test_a_damaged_file_is_named(workdir, tmp_path):
  path = tmp_path / 'digit.png'
  path.write_bytes(b'no picture')
  with pytest.raises(
    DamagedRecordError, match=r'digit\.png: The image \(10 by'
  ):
    attention_maps.write(str(workdir), files=[str(path)])


@pytest.mark.slow
def test_files_of_one_name_have_pictures_of_their_own(workdir, tmp_path):
  files = []
  for name in 'ab':
    (tmp_path / name).mkdir()
    files.append(str(digit(tmp_path / name)))
  paths = attention_maps.write(
    str(workdir), files=files, output=str(tmp_path / 'maps')
  )
  assert [path.name for path in paths] == ['digit.png', 'digit_2.png']


@pytest.mark.parametrize(
  ('text', 'latents'), [('3', [3]), ('0-2,9', [0, 1, 2, 9]), (None, None)]
)
def test_latents_are_parsed(text, latents):
  assert attention_maps.parse_latents(text) == latents


@pytest.mark.parametrize('text', ['', '-1', '2-', 'a', '3-1'])
def test_what_is_no_latent_is_said(text):
  with pytest.raises(ValueError, match='--latents='):
    attention_maps.parse_latents(text)
