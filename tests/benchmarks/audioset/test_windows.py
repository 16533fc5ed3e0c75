"""Windows of clips: in step, covering all, cropped alike."""

import jax
import numpy as np
import pytest

from experiments import pipeline
from experiments.benchmarks.audioset import windows
from experiments.errors import DamagedRecordError
from tests.benchmarks.audioset.clips import (
  clip,
  gray_frames,
  jpeg,
  SAMPLES,
  task,
  uncut,
)


def flash_and_click(video, audio):
  """Finds the frames of a window with the two; None: in none."""
  brightness = video.mean(axis=(1, 2, 3))
  loudness = np.abs(audio.astype(int)).reshape(-1, SAMPLES).max(axis=1)
  flash = int(brightness.argmax()) if brightness.max() > 200 else None
  click = int(loudness.argmax()) if loudness.max() else None
  return flash, click


@pytest.mark.parametrize('event', [0, 7, 19])
def test_flash_and_click_stay_in_step_through_random_crops(event):
  record, small = clip(event=event), task()
  seen = set()
  for seed in range(60):
    example = small.train_example(record, np.random.default_rng(seed))
    flash, click = flash_and_click(uncut(example['video']), example['audio'])
    assert flash == click
    seen.add(flash)
  # Windows start anywhere from 0 to 12.
  places = {event - start for start in range(13)}
  assert seen == {p if 0 <= p < 8 else None for p in places}


@pytest.mark.parametrize('frames', [5, 8, 9, 20])
def test_flash_and_click_stay_in_step_in_evaluation(frames):
  event = frames - 1
  example = task().eval_example(clip(frames=frames, event=event))
  for window in range(3):
    flash, click = flash_and_click(
      uncut(example['video'][window]), example['audio'][window]
    )
    assert flash == click
  assert flash == min(event, 7)


def test_sixteen_windows_cover_the_ten_seconds():
  """The paper's: 32 frames of 250, 61,440 samples of 480,000."""
  starts = windows.even_starts(250, 32, 16)
  assert (starts[0], starts[-1] + 32, len(starts)) == (0, 250, 16)
  assert set(np.diff(starts)) == {14, 15}  # Even, and overlapping.
  audio = np.arange(480_000) % 30_011
  cut = windows.cut_audio(
    {'frames': [], 'audio': audio.astype(np.int16)}, starts, 32
  )
  assert cut.shape == (16, 61_440)
  for start, window in zip(starts * 1920, cut, strict=True):
    np.testing.assert_array_equal(window, audio[start : start + 61_440])


@pytest.mark.parametrize('length', [33, 100, 249, 250])
def test_windows_cover_other_lengths(length):
  starts = windows.even_starts(length, 32, 16)
  frames = (starts[:, None] + np.arange(32)).ravel()
  assert set(frames) == set(range(length))


def test_short_clips_are_repeated():
  starts = windows.even_starts(3, 8, 2)
  np.testing.assert_array_equal(starts, [0, 0])
  audio = np.arange(3 * SAMPLES).astype(np.int16)
  record = {'frames': gray_frames([10, 100, 200]), 'audio': audio}
  (window, _) = windows.cut_audio(record, starts, 8)
  np.testing.assert_array_equal(window, np.tile(audio, 3)[: 8 * SAMPLES])
  video = windows.cut_video(record, starts, 8, size=4, rng=None)
  np.testing.assert_allclose(
    video.mean(axis=(2, 3, 4)),
    [[10, 100, 200, 10, 100, 200, 10, 100]] * 2,
    atol=2,  # Levels, of the JPEG.
  )


def test_a_shorter_stream_ends_in_silence_or_its_last_frame():
  record = clip(frames=4, samples=6 * SAMPLES - 5)
  assert windows.clip_frames(record) == 6
  starts = np.array(2)
  audio = windows.cut_audio(record, starts, 4)
  np.testing.assert_array_equal(audio[:-5], record['audio'][2 * SAMPLES :])
  assert not audio[-5:].any()
  video = windows.cut_video(
    {**record, 'frames': gray_frames([0, 50, 100, 150])},
    starts,
    4,
    size=4,
    rng=None,
  )
  levels = video.mean(axis=(1, 2, 3))
  np.testing.assert_allclose(levels, [100, 150, 150, 150], atol=2)


def test_all_frames_are_cropped_and_flipped_alike():
  ramp = np.add.outer(np.arange(18) * 5, np.arange(24) * 4)
  images = [jpeg(np.stack([ramp] * 3, axis=-1).astype(np.uint8))] * 8
  record = {**clip(frames=8), 'frames': images}
  small = task()
  crops = [
    uncut(small.train_example(record, np.random.default_rng(seed))['video'])
    for seed in range(40)
  ]
  for video in crops:
    assert (video == video[0]).all()
  # Brighter to the right, or flipped, and differently cropped.
  slopes = [float(v[0, :, -1].mean()) - float(v[0, :, 0].mean()) for v in crops]
  flipped = sum(slope < 0 for slope in slopes)
  assert 8 < flipped < 32  # Of 40; four standard deviations.
  assert len({v.tobytes() for v in crops}) == 40


@pytest.mark.parametrize('variant', ['', 'raw', 'av_mel', 'video'])
def test_examples_have_the_announced_shapes(variant):
  small = task(variant)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), dict(tree))
  example = small.train_example(clip(), np.random.default_rng(0))
  assert shapes(example) == shapes(small.example_spec())
  np.testing.assert_array_equal(example['labels'], [0, 1, 0, 0])
  assert shapes(small.eval_example(clip())) == shapes(small.eval_spec())
  batch = next(pipeline.eval_batches(small, [clip()], batch_size=2))
  assert shapes(batch) == shapes(small.eval_batch_spec(2))


def test_what_is_damaged_is_named():
  broken = clip(name='abc')
  broken['frames'][19] = broken['frames'][19][:99]
  with pytest.raises(DamagedRecordError, match=r'abc: frame 19: .*decoded'):
    task().eval_example(broken)
  broken['frames'][19] = jpeg(np.zeros((18, 20, 3), np.uint8))
  with pytest.raises(DamagedRecordError, match='abc: frames of different size'):
    task().eval_example(broken)
  with pytest.raises(DamagedRecordError, match='neither video nor audio'):
    task().eval_example(clip(frames=0))
  # Without a look at the frames nothing is wrong.
  assert task('raw').eval_example(broken)['has_audio']


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    ({'task.inputs': ('sound',)}, r"task.inputs=\('sound',\) must be some of"),
    ({'task.inputs': ()}, r'task.inputs=\(\) must be'),
    ({'task.patch_shape': (2, 3, 8)}, r'patch_shape=\(2, 3, 8\) does not div'),
    ({'task.spec_augment_bins': 13}, 'exceed the spectrogram of 12 x 8'),
  ],
)
def test_settings_that_do_not_fit_are_named(overrides, message):
  with pytest.raises(ValueError, match=message):
    task(**overrides)
