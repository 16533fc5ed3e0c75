"""Clips as downloaders leave them give the same data set as today's."""

import io
import itertools
import os

import jax
import numpy as np
from PIL import Image
import pytest

from experiments import experiment, sharding, train
from experiments.benchmarks.audioset import csv_files, preparation, standin
from experiments.benchmarks.audioset import source as audioset
from experiments.benchmarks.audioset.media import decoding
from tests.benchmarks.audioset.clips import config
from tests.benchmarks.audioset.media import media

NAMES = (
  '{id}_{start}',
  'Y{id}',
  '{id}_{start}_{end}',
  'Y{id}_{start}.000_{end}.000',
  '{id}_{start}000',
  'Y{id}_{start}000_{end}000',
  '{id}_{start}.0-{end}.0',
)
JPEG = {'video_codec': 'mjpeg', 'pixels': 'yuvj420p'}
# By suffix: the container, the codec of the sound and that of the pictures.
TODAY = {
  '.mkv': {'form': 'matroska', **JPEG},
  '.wav': {'form': 'wav'},
}
SAME = {
  '.avi': {'form': 'avi', **JPEG},
  '.flac': {'form': 'flac', 'audio_codec': 'flac'},
  '.mov': {'form': 'mov', 'audio_codec': 'pcm_s16be', **JPEG},
  '.ogg': {'form': 'ogg', 'audio_codec': 'flac'},
  '.MOV': {'form': 'mov', 'audio_codec': 'alac', **JPEG},
  '.m4a': {'form': 'ipod', 'audio_codec': 'alac'},
}
ALIKE = {
  '.ts': {'form': 'mpegts', 'audio_codec': 'aac', 'video_codec': 'libx264'},
  '.mp3': {'form': 'mp3', 'audio_codec': 'libmp3lame'},
  '.avi': {'form': 'avi', 'audio_codec': 'libmp3lame', 'video_codec': 'mpeg4'},
  '.opus': {'form': 'opus', 'audio_codec': 'libopus'},
  '.mov': {'form': 'mov', 'audio_codec': 'aac', 'video_codec': 'libx264'},
  '.m4a': {'form': 'ipod', 'audio_codec': 'aac'},
}
SIZE = 4  # Clips for each file of segments.


@pytest.fixture(scope='module')
def events(tmp_path_factory):
  """The stand-in's CSVs, and its clips: segment, pictures and sound."""
  folder = tmp_path_factory.mktemp('events') / 'drawn'
  standin.generate(str(folder), 2, sizes=dict.fromkeys(standin.SIZES, SIZE))
  csv = str(folder / 'csv')
  clips = []
  for segment in csv_files.read_segments(csv, csv_files.read_classes(csv)):
    name = f'{segment.id}_{segment.start:.0f}.mp4'
    frames, samples = decoding.decode(str(folder / 'clips' / name))
    images = [np.asarray(Image.open(io.BytesIO(frame))) for frame in frames]
    clips.append((segment, images, samples))
  return csv, clips


def prepare(folder, events, forms, names, damaged=()):
  """Prepares the clips in formats and with names that take turns.

  Those whose numbers are in `damaged` lack their second half.
  """
  csv, clips = events
  (folder / 'clips').mkdir(parents=True)
  forms, names = itertools.cycle(forms.items()), itertools.cycle(names)
  for number, (segment, images, samples) in enumerate(clips):
    (suffix, kwargs), name = next(forms), next(names)
    pictures = {}
    if 'video_codec' in kwargs:
      times = np.arange(len(images)) / 25
      pictures = {'times': times, 'images': images, 'frame_rate': 25}
    content = media(samples=samples[None], **pictures, **kwargs)
    if number in damaged:
      content = content[:200]
    path = name.format(
      id=segment.id, start=round(segment.start), end=round(segment.end)
    )
    (folder / 'clips' / f'{path}{suffix}').write_bytes(content)
  return preparation.prepare(
    str(folder / 'clips'), csv, str(folder / 'data'), 2
  )


def records(folder, split):
  return list(
    audioset.open_source(
      str(folder / 'data'),
      split,
      num_examples=None,
      num_classes=len(standin.CLASSES),
    )
  )


def correlate(audio, expected):
  """Returns by how many samples audio is late, and its correlation then."""
  size = len(audio) + len(expected)
  spectra = [np.fft.rfft(x.astype(float), size) for x in (audio, expected)]
  products = np.fft.irfft(spectra[0] * spectra[1].conj(), size)
  late = int(np.argmax(products))
  late -= size * (late > len(audio))
  shifted = audio[max(late, 0) :][: len(expected)]
  return late, np.corrcoef(shifted, expected[: len(shifted)])[0, 1]


def train_events(folder, num_train):
  """Trains two steps, and returns the evaluation."""
  run = experiment.create(
    config(
      'events_av',
      **{
        'data.dir': str(folder / 'data'),
        'task.num_classes': len(standin.CLASSES),
        'task.num_train': num_train,
        'task.num_eval': SIZE,
        'train.steps': 2,
      },
    ),
    sharding.make_mesh(1, jax.devices()[:1]),
  )
  return train.train(run, str(folder / 'run'))['eval']


@pytest.mark.slow
def test_the_same_samples_and_pictures_give_the_same_bytes(tmp_path, events):
  told = prepare(tmp_path / 'today', events, TODAY, NAMES[:1])
  assert f'{2 * SIZE} clips for train, {SIZE} clips for eval; 0 files' in told
  prepare(tmp_path / 'same', events, SAME, NAMES)
  lengths = {len(x['frames']) for x in records(tmp_path / 'today', 'train')}
  assert 0 in lengths
  assert max(lengths) >= 25 * standin.SECONDS
  names = []
  for path in (tmp_path / 'today' / 'data').rglob('*.array_record'):
    same = tmp_path / 'same' / path.relative_to(tmp_path / 'today')
    assert same.read_bytes() == path.read_bytes()
    names.append(path.name)
  assert len(names) == 2
  result = train_events(tmp_path / 'same', 2 * SIZE)
  assert result == train_events(tmp_path / 'today', 2 * SIZE)


@pytest.mark.slow
def test_other_codecs_give_nearly_the_same(tmp_path, events):
  prepare(tmp_path / 'today', events, TODAY, NAMES[:1])
  damaged = {1, 4, 5}
  told = prepare(tmp_path / 'alike', events, ALIKE, NAMES, damaged)
  assert f'{2 * SIZE - 3} clips for train, {SIZE} clips for eval; 3 ' in told
  lost = {events[1][i][0].id for i in damaged}
  folder = audioset.directory(str(tmp_path / 'alike' / 'data'))
  with open(os.path.join(folder, preparation.REPORT)) as file:
    lines = [
      line for line in file if line.startswith('skipped') and '/' in line
    ]
  assert {line.split(',')[2] for line in lines} == lost
  for split in ('train', 'eval'):
    expected = [
      x for x in records(tmp_path / 'today', split) if x['id'] not in lost
    ]
    found = records(tmp_path / 'alike', split)
    assert [x['id'] for x in found] == [x['id'] for x in expected]
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_array_equal(one['labels'], other['labels'])
      assert bool(len(one['frames'])) == bool(len(other['frames']))
      assert abs(len(one['audio']) - len(other['audio'])) <= 2 * 1920
      late, likeness = correlate(one['audio'], other['audio'])
      assert 0 <= late <= 1920
      assert likeness > 0.75  # Of clicks, mp3 leaves 0.81; of tones, 0.99.
  assert train_events(tmp_path / 'alike', 2 * SIZE - 3)['count'] == SIZE
