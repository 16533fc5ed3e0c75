"""AudioSet's task: the model's input, dropout, and whole runs."""

from collections.abc import Sequence
import csv
import dataclasses
import json

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import audioset as configs
from experiments import (
  evaluate,
  experiment,
  models,
  pipeline,
  saved,
  sharding,
  train,
)
from experiments.benchmarks.audioset import source
from experiments.benchmarks.audioset.average_precision import average_precision
from perceiver.modalities import spectrogram
from tests.benchmarks.audioset.clips import clip, config, task, uncut

# Elements and channels, as in PAPER.md; 129 is 2 x 64 bands and the position.
AUDIO, PATCHES = {'raw': (480, 128 + 129), 'mel': (4800, 1 + 2 * 129)}, 12_544
COUNTS = {
  'raw': AUDIO['raw'],
  'mel': AUDIO['mel'],
  'video': (PATCHES, 384 + 387),
  '': (PATCHES + 480, 775),
  'av_mel': (PATCHES + 4800, 775),
  'av_mel_tuned': (PATCHES + 4800, 775),
  'av_raw_no_video_dropout': (PATCHES + 480, 775),
  'av_mel_no_video_dropout': (PATCHES + 4800, 775),
  'attention_maps': (16 * 56 * 56 + 61_440, 2 * 4 * 4 * 3 + 387 + 4),
}


@pytest.mark.parametrize(
  'variant',
  [v for v in configs.VARIANTS if not v.startswith(('events', 'table3'))],
)
def test_every_variant_has_the_papers_elements_and_channels(variant):
  full = configs.get_config(variant)
  inputs = models.input_shapes(full)
  assert (inputs.num_elements, inputs.num_channels) == COUNTS[variant]
  model = full.model
  assert (model.num_latent_transformers, model.num_self_attends) == (2, 8)
  assert (model.num_latents, model.latent_channels) == (512, 1024)
  assert not model.share_cross_attends
  assert not model.share_latent_transformers


def test_the_second_iteration_has_weights_of_its_own():
  params, _ = models.model_shapes(configs.get_config())
  for name in ('cross_attend_1', 'latent_transformer_1/self_attend_7'):
    assert any(path.startswith(f'perceiver/~/{name}') for path in params)
  assert params['perceiver']['latents'].shape == (512, 1024)
  # Section 4.2: they make up for what audio lacks in channels.
  widths = {k: x.shape for k, x in params['modality_encoding'].items()}
  assert widths == {'video': (4,), 'raw': (775 - 257,)}


def create(variant='', **overrides):
  return experiment.create(
    config(variant, **overrides), sharding.make_mesh(1, jax.devices()[:1])
  )


def records(count, **also):
  return [
    clip(seed=i, name=f'clip{i}', labels=(i % 3, (i + 1) % 3), **also)
    for i in range(count)
  ]


def contents(a_task, batch):
  """Each segment's content."""
  inputs = hk.transform(
    lambda batch: [
      segment.content for segment in models.byte_array(a_task, batch).segments
    ]
  )
  params = jax.eval_shape(inputs.init, jax.random.key(0), batch)
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
  found = jax.jit(inputs.apply)(params, None, batch)
  return dict(zip(a_task.inputs, map(np.asarray, found), strict=True))


def test_content_is_the_streams_values():
  small = task(**{'task.inputs': ('video', 'raw', 'mel')})
  batches = pipeline.train_batches(small, records(4), batch_size=4, seed=0)
  batch = next(batches)
  seen = contents(small, batch)
  video = batch['video'].astype(np.float32) / 127.5 - 1
  np.testing.assert_allclose(seen['video'], video, atol=1e-6)
  # The patch at (1, 0, 1) of frames 2 and 3, 8 x 8 pixels.
  pixels = np.stack([uncut(x) for x in video])
  patch = pixels[:, 2:4, :8, 8:16].reshape(4, -1)
  np.testing.assert_allclose(seen['video'][:, 1, 0, 1], patch, atol=1e-6)
  raw = batch['audio'].reshape(4, -1, 128) / np.float32(32768)
  np.testing.assert_array_equal(seen['raw'], raw)
  mel = spectrogram.log_mel(
    raw.reshape(4, -1), num_bins=12, hop=1920, sample_rate=48_000
  )
  mel = (mel - spectrogram.MEAN) / spectrogram.STDDEV
  np.testing.assert_allclose(seen['mel'][..., 0], mel, atol=1e-4)


def test_absent_streams_are_zero_and_the_rest_is_as_before():
  small = task('av_mel')
  whole = clip()
  for stream, name in (('frames', 'video'), ('audio', 'mel')):
    lacking = {**whole, stream: whole[stream][:0]}
    made = [
      small.train_example(record, np.random.default_rng(0))
      for record in (whole, lacking)
    ]
    batch = jax.tree.map(lambda *x: np.stack(x), *made)
    seen = contents(small, batch)
    assert not seen.pop(name)[1].any()
    (other,) = seen.values()
    assert other[1].any()
    assert small.eval_example(lacking)['labels'].any()
  # Silence that exists is something else: its logarithm has a value.
  silent = {**whole, 'audio': np.zeros_like(whole['audio'])}
  example = small.train_example(silent, np.random.default_rng(0))
  batch = jax.tree.map(lambda x: x[None], example)
  assert contents(small, batch)['mel'].all()


def test_the_video_is_taken_away_in_a_split_of_its_own(monkeypatch):
  clips = source.Source(['file'], [7])
  monkeypatch.setattr(source, 'open_source', lambda *_, **__: clips)
  both = task('av_mel', **{'task.eval_without_video': True})
  assert both.eval_splits == ('eval', 'eval_without_video')
  assert both.num_examples('eval_without_video') == 7
  hiding = both.source('eval_without_video', 'data')
  assert (len(hiding), hiding.hidden) == (7, ('video',))
  assert both.source('eval', 'data').hidden == ()
  whole = both.eval_example(clip())
  heard = both.eval_example({**clip(), 'hidden': hiding.hidden})
  assert whole['has_video']
  assert whole['video'].any()
  assert not heard['has_video']
  assert not heard['video'].any()
  for name in ('audio', 'has_audio', 'labels'):
    np.testing.assert_array_equal(heard[name], whole[name])
  for inputs in (('video',), ('raw', 'mel')):
    with pytest.raises(ValueError, match='needs the video and another of'):
      task(**{'task.inputs': inputs, 'task.eval_without_video': True})


def many(small, count):
  """A batch of one example, again and again."""
  example = small.train_example(clip(), np.random.default_rng(0))
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), example)


@pytest.mark.slow
def test_streams_are_dropped_with_their_probabilities():
  settings = {
    'task.video_dropout': 0.3,
    'task.spectrogram_dropout': 0.1,
    'task.spec_augment_masks': 0,
    'task.num_frames': 2,
    'task.image_size': 8,
    'task.spec_augment_frames': 1,
  }
  small = task('av_mel', **settings)
  count = 1000
  batch = many(small, count)
  augment_batch = jax.jit(small.augment_batch)
  dropped = augment_batch(batch, jax.random.key(0))
  seen = contents(small, dropped)
  gone = {k: ~x.reshape(len(x), -1).any(axis=1) for k, x in seen.items()}
  for name, rate in (('video', 0.3), ('mel', 0.1)):
    deviation = np.sqrt(rate * (1 - rate) / count)
    assert abs(gone[name].mean() - rate) < 5 * deviation
  # Each on its own.
  assert abs(np.corrcoef(*gone.values())[0, 1]) < 5 / np.sqrt(count)
  again = augment_batch(batch, jax.random.key(0))
  for name in dropped:
    np.testing.assert_array_equal(dropped[name], again[name])
  other = augment_batch(batch, jax.random.key(1))
  assert (other['has_video'] != dropped['has_video']).any()
  # Nothing is dropped from evaluation, which augments nothing.
  assert all(x.all() for x in (batch['has_video'], batch['has_audio']))


def test_spec_augment_masks_what_the_model_sees():
  small = task('mel')
  batch = {**many(small, 4), 'mask': jnp.ones(4, bool)}
  seen = contents(small, small.augment_batch(batch, jax.random.key(3)))['mel']
  plain = contents(small, batch)['mel']
  masked = seen == 0
  assert 0 < masked.mean() < 0.6
  np.testing.assert_array_equal(seen[~masked], plain[~masked])
  assert len({x.tobytes() for x in masked}) == 4


@pytest.fixture
def clips(monkeypatch):
  """A stand-in for what is on disk; 2 of 7 clips lack a stream, 1 is broken."""
  splits = {'train': records(12, frames=10), 'eval': records(7, frames=10)}
  splits['eval'][2]['frames'] = []
  splits['eval'][3]['audio'] = np.zeros(0, np.int16)
  splits['eval'][4]['frames'][0] = b'not a JPEG'
  monkeypatch.setattr(
    source, 'open_source', lambda data_dir, split, **_: splits[split]
  )
  return splits


@pytest.mark.slow
def test_runs_average_scores_of_windows_and_report_map(clips, tmp_path):
  run = create()
  result = train.train(run, str(tmp_path))['eval']
  assert result['count'] == 6
  assert result['classes_left_out'] == 1
  # Window by window on the host, clip by clip.
  state = saved.restore(run, str(tmp_path))
  apply = jax.jit(
    lambda b: run.forward.apply(state.params, state.model_state, None, b, False)
  )
  scores, labels, losses = [], [], []
  for i, record in enumerate(clips['eval']):
    if i == 4:
      continue
    example = run.task.eval_example(record)
    logits = []
    for window in range(3):
      one = {k: example[k][window] for k in ('video', 'audio')}
      batch = jax.tree.map(lambda x: x[None], {**example, **one})
      logits.append(apply(batch)[0][0])
    logits = np.stack(logits)
    scores.append(np.mean(1 / (1 + np.exp(-logits)), axis=0))
    labels.append(example['labels'])
    targets = np.broadcast_to(example['labels'], logits.shape)
    entropy = optax.sigmoid_binary_cross_entropy(logits, targets.astype('f'))
    losses.append(entropy.sum(axis=1).mean())
  expected = average_precision(np.stack(scores), np.stack(labels))
  # Ranks could only differ in ties; the loss, by float32's rounding.
  assert result['mAP'] == pytest.approx(np.nanmean(expected), rel=1e-6)
  assert result['loss'] == pytest.approx(np.mean(losses), rel=1e-4)
  with open(tmp_path / 'average_precision.csv') as file:
    rows = list(csv.DictReader(file))
  assert [int(row['index']) for row in rows] == [0, 1, 2, 3]
  assert [int(row['positives']) for row in rows] == [5, 4, 3, 0]
  written = [float(row['average_precision'] or 'nan') for row in rows]
  np.testing.assert_allclose(written, expected, atol=1e-6)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  reported = [r for r in map(json.loads, lines) if r['split'] == 'eval']
  assert [r['step'] for r in reported] == [2, 4]
  assert reported[-1]['mAP'] == result['mAP']
  assert evaluate.summary('eval', result).startswith(
    f'eval mAP {100 * result["mAP"]:.2f} %, classes_left_out 1, loss '
  )
  (tmp_path / 'average_precision.csv').unlink()
  again = saved.evaluate_checkpoint(run, str(tmp_path))
  assert again['eval'] == result
  assert (tmp_path / 'average_precision.csv').exists()


@dataclasses.dataclass(frozen=True)
class Clips(Sequence):
  """Stands in for `source.Source`."""

  records: list
  hidden: tuple[str, ...] = ()

  def __len__(self):
    return len(self.records)

  def __getitem__(self, index):
    return {**self.records[index], 'hidden': self.hidden}


@pytest.mark.slow
def test_each_split_has_files_of_its_own(clips, monkeypatch, tmp_path):
  monkeypatch.setattr(
    source, 'open_source', lambda data_dir, split, **_: Clips(clips[split])
  )
  run = create(**{'task.eval_without_video': True})
  result = train.train(run, str(tmp_path))
  assert result['eval']['loss'] != result['eval_without_video']['loss']
  # Without its video, the clip with the broken frame can be read.
  counts = {split: x['count'] for split, x in result.items()}
  assert counts == {'eval': 6, 'eval_without_video': 7}
  for split, table in (
    ('eval', 'average_precision.csv'),
    ('eval_without_video', 'eval_without_video_average_precision.csv'),
  ):
    with np.load(tmp_path / f'predictions_{split}.npz') as found:
      scores, labels = found['all_scores'], found['all_labels']
    assert scores.shape == labels.shape == (counts[split], 4)
    expected = average_precision(scores, labels)
    assert result[split]['mAP'] == pytest.approx(np.nanmean(expected))
    with open(tmp_path / table) as file:
      rows = list(csv.DictReader(file))
    written = [float(row['average_precision'] or 'nan') for row in rows]
    np.testing.assert_allclose(written, expected, atol=1e-6)


@pytest.mark.slow
def test_sharded_evaluation_is_the_same(clips, tmp_path):
  settings = {'train.steps': 1, 'train.batch_size': 8, 'eval.batch_size': 8}
  one = create('mel', **settings)
  result = train.train(one, str(tmp_path))
  many_devices = experiment.create(config('mel', **settings))
  assert many_devices.mesh.size == 8
  again = saved.evaluate_checkpoint(many_devices, str(tmp_path))
  assert again['eval'] == pytest.approx(result['eval'], rel=1e-5)
